"""Make the pictures of docs/atlas.md: an atlas of the reference model over drawn scenes, or one that exists.

.venv/bin/python docs/make_atlas.py [--site INDEX.HTML]
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page

from accentor.engine import fit_dictionary, load_model
from accentor.engine.atlas import AtlasOptions, build_atlas, folder_items
from accentor.engine.reference.scenes import render_scene
from accentor.spec import PRESETS, Recipe
from sheets import chromium, opened, save_large, save_sheet

SCENES = range(7_000, 7_128)
LABELLED = 16
SIDE_PX = 112
LAYER, CONCEPTS = "block4", 32
OPTIONS = AtlasOptions(top_k=3, images=8, title="Concepts of block4 over drawn scenes")
STRENGTHS = (-0.5, 0.0, 0.5, 1.0)
SEEN = 0.9


def draw(folder: Path) -> None:
    """Draw scenes, the first ones labelled by the colour of their largest object alone."""
    for seed in SCENES:
        scene = render_scene(seed, SIDE_PX)
        largest = max(scene.objects, key=lambda one: one.mask.sum())
        place = folder / largest.color if seed < SCENES.start + LABELLED else folder
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene.image).save(place / f"scene-{seed}.png")


def build(folder: Path) -> Path:
    """Return the first page of an atlas of concepts that are fitted to scenes."""
    draw(folder / "scenes")
    model, items = load_model("reference"), folder_items(folder / "scenes")
    return build_atlas(
        model,
        fit_dictionary(model, [Path(item.id) for item in items], LAYER, CONCEPTS, name="concepts"),
        items,
        folder / "atlas",
        Recipe.model_validate(PRESETS["fast"].model_dump() | {"strengths": STRENGTHS}),
        OPTIONS,
        dataset="scenes",
    )


def drawn_map(page: Page) -> None:
    """Wait for the map's thumbnails."""
    page.locator(".map-box[data-tiles]:not([data-tiles='0'])").wait_for()


def pictured(page: Page) -> None:
    """Wait for the first picture."""
    page.locator(".viewer[data-ready]").first.wait_for()


def mapped(page: Page) -> None:
    """Show where, by the opacity map."""
    pictured(page)
    page.locator("#opacity").fill(str(SEEN))


def listed(page: Page) -> None:
    """Wait for the list of images."""
    page.locator(".tile .thumb").first.wait_for()


def best(index: Path, name: str, rank: Callable[[dict[str, Any]], float]) -> int:
    """Return the index of the first entry of a site's list that ranks highest."""
    entries = map(json.loads, index.with_name(f"{name}.jsonl").read_text(encoding="utf-8").splitlines())
    return int(max(entries, key=rank)["index"])


def shoot(index: Path) -> None:
    """Write a sheet of each page, the feature the most coherent, and the overview in large."""
    feature = best(index, "features", lambda one: one.get("coherence") or 0.0)
    image = best(index, "images", lambda one: sum("shown" in top for top in one["features"]))
    pages = {
        "overview": ("#/", drawn_map),
        "feature": (f"#/feature/{feature}", pictured),
        "images": ("#/images", listed),
        "image": (f"#/image/{image}", mapped),
        "errors": ("#/errors", mapped),
    }
    with chromium() as browser:
        for name, (place, ready) in pages.items():
            save_sheet(browser, f"{index.as_uri()}{place}", f"atlas-{name}", ready)
        page = opened(browser, index.as_uri(), "dark")
        drawn_map(page)
        save_large(page, "atlas-map")


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--site", type=Path, help="index.html of an atlas that exists; none: one is built")
    site = parser.parse_args().site
    with tempfile.TemporaryDirectory() as folder:
        shoot(site.resolve() if site else build(Path(folder)))


if __name__ == "__main__":
    main()
