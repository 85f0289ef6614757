"""One pass over the images."""

import os
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor

from accentor.engine.canvas import ImageLike
from accentor.engine.dictionaries import Dictionary, EncoderDictionary, channels_of
from accentor.engine.dictionaries.samples import positions_of
from accentor.engine.layers import OUTPUT
from accentor.engine.loading import Item, Loaded, Skipped, as_items, load
from accentor.engine.models import Model
from accentor.engine.scan.bins import BINS, add_counts, edges
from accentor.engine.scan.codes import codes_of
from accentor.engine.scan.ranked import Ranked
from accentor.engine.scan.result import Reduce, Scan, Settings
from accentor.engine.scan.rows import ImageRow, ImageRows, label_index
from accentor.engine.scan.sample import Sample, priority
from accentor.errors import InvalidRequestError

BATCH = 32
SAMPLE = 512
"""Images of which all values are kept, and whether they fire: 40 MiB for 16,384 features."""
TOP_K = 16
CODES = 2**22
"""Numbers of a batch's codes that are made at once: 16 MiB, where those of 16,384 features at 49 places are 98."""


def scan(
    model: Model,
    features: Dictionary | str,
    images: Iterable[ImageLike | Item],
    top_k: int = TOP_K,
    *,
    reduce: Reduce = "mean",
    code: Literal["pre", "post"] = "post",
    fires_above: float = 0.0,
    top_features: int = 16,
    sample: int = SAMPLE,
    batch: int = BATCH,
    threads: int | None = None,
    rows: Callable[[list[ImageRow]], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
    may_be_empty: bool = False,
) -> Scan:
    """Return what every feature does over the images, in one pass.

    Memory is in proportion to features × (top_k + sample + bins), whatever the number of images, if they come as an
    iterator and ``rows`` is given.

    Parameters
    ----------
    model
        From `load_model`.
    features
        A dictionary, or the name of a layer: all its channels.
    images
        As for `accentuate`, or items; each is scaled until its shorter side fits the network, and cropped at the
        centre. One that cannot be read is passed over, and listed.
    top_k
        Images kept for every feature.
    reduce
        The value of a feature on an image: its mean over the layer's positions, which is what accentuation raises, or
        its maximum. Where a feature is said to be is always where it is largest.
    code
        For an encoder: values before or after its activation.
    fires_above
        A feature fires on an image if its code, after the activation whatever ``code``, is above this anywhere in it.
    top_features
        Features kept for every image, by value.
    sample
        Images of which all values are kept: for quantiles, and for the images at percentiles.
    batch
        Images that go through the network together.
    threads
        That decode images; none: one a core.
    rows
        Is given what is said of every image, batch by batch, instead of the scan.
    on_progress
        Is told how many images are done; may use the model meanwhile.
    may_be_empty
        Whether it is no error that no image can be read, as in one of many shards.

    Raises
    ------
    UnknownLayerError, InvalidFeatureError
        If the dictionary is not one of this model's layer.
    InvalidRequestError
        If there is no image that can be read, or a number is out of its range.
    """
    for name, number in (("top_k", top_k), ("top_features", top_features), ("sample", sample), ("batch", batch)):
        if number < 1:
            raise InvalidRequestError(f"{name} is {number}: expected 1 or more")
    dictionary = channels_of(model, features) if isinstance(features, str) else features
    dictionary.check(model.card)
    layer = model.card.layer(dictionary.layer)
    settings = Settings(
        model=model.card.digest,
        dictionary=dictionary.name,
        layer=layer.name,
        features=dictionary.size,
        reduce=reduce,
        code=code if isinstance(dictionary, EncoderDictionary) else "post",
        fires_above=fires_above,
        top_k=top_k,
        top_features=min(top_features, dictionary.size),
        sample=sample,
        grid=layer.grid_shape,
        side=model.card.input_size,
    )
    running = Running(model, dictionary.to(model.device), settings)
    kept: list[ImageRow] = []
    hand_on = rows or kept.extend
    for loaded in load(as_items(images), model.card, batch, threads or os.cpu_count() or 1):
        with model.frozen(), torch.inference_mode():
            rows_of_batch = running.add(loaded)
        hand_on(rows_of_batch)
        if on_progress is not None:
            on_progress(running.seen + len(running.skipped))
    found = running.result(ImageRows(kept))
    if not found.seen and not may_be_empty:
        reasons = f"; the first: {found.skipped[0].id}: {found.skipped[0].reason}" if found.skipped else ""
        raise InvalidRequestError(f"there is no image to scan: {len(found.skipped)} could not be read{reasons}")
    return found


class Running:
    """The state of a scan, on the model's device."""

    def __init__(self, model: Model, dictionary: Dictionary, settings: Settings) -> None:
        size, device = dictionary.size, model.device
        self._model, self._dictionary, self._settings = model, dictionary, settings
        self._layer = model.card.layer(settings.layer)
        self._classifies = model.card.outputs is not None
        self.seen = 0
        self.skipped: list[Skipped] = []
        self._top = Ranked.empty(size, settings.top_k, device)
        self._bottom = Ranked.empty(size, 1, device)
        self._count, self._fired = (torch.zeros(size, dtype=torch.int64, device=device) for _ in range(2))
        self._total, self._squares = (torch.zeros(size, dtype=torch.float64, device=device) for _ in range(2))
        self._histogram = torch.zeros(size, BINS, dtype=torch.int32, device=device)
        self._bounds = edges(device)
        self._sample = Sample.empty(settings.sample, size, device)

    def add(self, loaded: Loaded) -> list[ImageRow]:
        """Take in a batch; return what is said of its images."""
        self.skipped += loaded.skipped
        if not loaded.images:
            return []
        names = frozenset({self._layer.name, OUTPUT} if self._classifies else {self._layer.name})
        captured = self._model.activations(loaded.pixels.to(self._model.device), names)
        values, is_on, places = self._values(positions_of(captured[self._layer.name], self._layer))
        self._count_in(values, is_on)
        notes = self._notes(loaded, places, is_on)
        self._top.add(values.T, notes)
        self._bottom.add(-values.T, notes)
        marks = torch.tensor([priority(item.id) for item in loaded.items])
        self._sample.add(marks, torch.tensor(loaded.images), values, is_on)
        self.seen += len(loaded.images)
        return self._rows(loaded, values, captured.get(OUTPUT))

    def result(self, rows: ImageRows) -> Scan:
        """Return what was found, on the CPU."""
        return Scan(
            settings=self._settings,
            seen=self.seen,
            skipped=tuple(self.skipped),
            top=self._top.cpu(),
            bottom=self._bottom.cpu(),
            count=self._count.cpu(),
            total=self._total.cpu(),
            squares=self._squares.cpu(),
            fired=self._fired.cpu(),
            histogram=self._histogram.cpu(),
            sampled=self._sample.cpu(),
            rows=rows,
        )

    def _values(self, activations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return values, whether it is on, and where it is largest [B, features], of [B, positions, units].

        Where is looked for if the value is among the largest or least so far.
        """
        at_once = max(1, CODES // (activations.shape[1] * self._settings.features))
        parts = [self._values_of(part.float()) for part in torch.split(activations, at_once)]
        values, is_on, places = (torch.cat(part) for part in zip(*parts, strict=True))
        return values, is_on, places

    def _values_of(self, activations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pre, post = codes_of(self._dictionary, activations)
        shown = pre if self._settings.code == "pre" else post
        values = shown.largest if self._settings.reduce == "max" else shown.mean
        ranks = (values > self._top.least) | (-values > self._bottom.least)
        return values, post.largest > self._settings.fires_above, shown.places(ranks)

    def _count_in(self, values: Tensor, is_on: Tensor) -> None:
        finite = values.isfinite()
        known = values.where(finite, 0.0).double()
        self._count += finite.sum(dim=0)
        self._total += known.sum(dim=0)
        self._squares += known.square().sum(dim=0)
        self._fired += is_on.sum(dim=0)
        add_counts(self._histogram, values, self._bounds)

    def _notes(self, loaded: Loaded, places: Tensor, is_on: Tensor) -> Tensor:
        known = torch.cat([torch.tensor(loaded.images)[:, None], loaded.sizes], dim=1).to(places.device)
        image, height, width = (column.expand(places.shape[1], -1) for column in known.T)
        return torch.stack([image, places.T, height, width, is_on.T], dim=2)

    def _rows(self, loaded: Loaded, values: Tensor, logits: Tensor | None) -> list[ImageRow]:
        best = values.nan_to_num(nan=-torch.inf).topk(self._settings.top_features, dim=1)
        found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        taken: list[tuple[int | None, float | None]] = [(None, None)] * len(loaded.images)
        if logits is not None:
            likeliest = logits.float().softmax(dim=1).max(dim=1)
            taken = list(zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True))
        card, rows = self._model.card, zip(loaded.images, loaded.items, loaded.sizes.tolist(), strict=True)
        return [
            ImageRow(
                image=image,
                id=item.id,
                height=height,
                width=width,
                label=label_index(item.label, card),
                prediction=prediction,
                probability=probability,
                features=tuple(indices),
                values=tuple(strengths),
            )
            for (image, item, (height, width)), (prediction, probability), (indices, strengths) in zip(
                rows, taken, found, strict=True
            )
        ]
