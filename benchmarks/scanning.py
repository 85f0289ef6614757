"""A scan against the plain forward pass of the same loader and model: rate, and memory by the number of images.

.venv/bin/python benchmarks/scanning.py [--model NAME] [--layer NAME] [--features N] [--images N] [--device NAME]
"""

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from accentor.engine import Model, load_model
from accentor.engine.dictionaries import Dictionary, EncoderDictionary, channels_of
from accentor.engine.dictionaries.samples import positions_of
from accentor.engine.layers import OUTPUT
from accentor.engine.loading import as_items, load
from accentor.engine.reference.scenes import render_scene
from accentor.engine.scan import scan
from accentor.engine.scan.scanning import BATCH

SIDE = 256
DRAWN = 128
ROUNDS = 5
WANTED_RATIO = 0.85


def draw(folder: Path) -> list[Path]:
    """Draw scenes as JPEG files."""
    paths = [folder / f"{seed}.jpg" for seed in range(DRAWN)]
    for seed, path in enumerate(paths):
        Image.fromarray(render_scene(seed, size=SIDE).image).save(path, quality=90)
    return paths


def open_model(name: str, device: str) -> Model:
    """Return a model; one of torchvision's has random weights, which take as long as others."""
    source, _, kind = name.partition(":")
    if source != "torchvision":
        return load_model(name, device=device)
    import torchvision

    torch.manual_seed(0)
    return Model(torchvision.models.get_model(kind).to(device), name=name)


def dictionary_of(model: Model, layer: str, features: int) -> Dictionary:
    """Return the channels of a layer, or a sparse autoencoder's encoder of so many features."""
    if not features:
        return channels_of(model, layer)
    units = model.card.layer(layer).units
    vectors = torch.randn(features, units, generator=torch.Generator().manual_seed(0)) / units**0.5
    return EncoderDictionary(name="random", layer=layer, vectors=vectors, activation="topk", k=32)


def forward(model: Model, paths: Sequence[Path], threads: int, dictionary: Dictionary | None = None) -> float:
    """Return images per second of a loop that does nothing but decode, run the network, and encode if asked."""
    layer = None if dictionary is None else model.card.layer(dictionary.layer)
    names = frozenset({OUTPUT} if layer is None else {OUTPUT, layer.name})
    started = time.perf_counter()
    with model.frozen(), torch.inference_mode():
        for loaded in load(as_items(paths), model.card, BATCH, threads):
            captured = model.activations(loaded.pixels.to(model.device), names)
            if dictionary is not None and layer is not None:
                dictionary.encode(positions_of(captured[layer.name], layer).float())
    return len(paths) / _since(started, model)


def scanned(model: Model, dictionary: Dictionary, paths: Sequence[Path], threads: int) -> float:
    """Return images per second of a scan."""
    started = time.perf_counter()
    scan(model, dictionary, paths, threads=threads, rows=lambda rows: None)
    return len(paths) / _since(started, model)


def held(given: argparse.Namespace, drawn: Sequence[Path], count: int) -> float:
    """Return the most MiB that a process of its own holds which scans so many images."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_held, (given, drawn, count))


def _held(given: argparse.Namespace, drawn: Sequence[Path], count: int) -> float:
    model = open_model(given.model, given.device)
    images = (drawn[index % len(drawn)] for index in range(count))
    dictionary = dictionary_of(model, given.layer, given.features)
    scan(model, dictionary, images, threads=given.threads, rows=lambda rows: None)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def _since(started: float, model: Model) -> float:
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Measure, one after the other in turn, and return medians."""
    model = open_model(given.model, given.device)
    dictionary = dictionary_of(model, given.layer, given.features)
    with tempfile.TemporaryDirectory() as folder:
        drawn = draw(Path(folder))
        paths = [drawn[index % DRAWN] for index in range(given.images)]
        forward(model, drawn, given.threads)
        scanned(model, dictionary, drawn, given.threads)
        dictionary = dictionary.to(model.device)
        rates = [
            (
                forward(model, paths, given.threads),
                forward(model, paths, given.threads, dictionary),
                scanned(model, dictionary, paths, given.threads),
            )
            for _ in range(ROUNDS)
        ]
        memory = {count: round(held(given, drawn, count)) for count in (given.images // 4, given.images)}
    return {
        "model": given.model,
        "device": torch.cuda.get_device_name() if model.device.type == "cuda" else "cpu",
        "layer": given.layer,
        "features": dictionary.size,
        "images": given.images,
        "threads": given.threads,
        "forward_per_s": round(statistics.median(plain for plain, _, _ in rates), 1),
        "encoded_per_s": round(statistics.median(encoded for _, encoded, _ in rates), 1),
        "scan_per_s": round(statistics.median(scan for _, _, scan in rates), 1),
        "ratio": round(statistics.median(scan / plain for plain, _, scan in rates), 3),
        "ratio_to_encoded": round(statistics.median(scan / encoded for _, encoded, scan in rates), 3),
        "wanted": WANTED_RATIO,
        "memory_mib": memory,
    }


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="reference")
    parser.add_argument("--layer", default="block4")
    parser.add_argument("--features", type=int, default=0, help="of a random encoder; 0: the layer's channels")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    print(json.dumps(measure(parser.parse_args()), indent=2))


if __name__ == "__main__":
    main()
