"""Figures of results, drawn with matplotlib without pyplot: nothing is shown and no window opens. Needs ``plot``.

Pictures are drawn as they are, pixel for pixel in 8 bits, with no stretch of their own.
"""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from accentor.engine.outputs.extras import needed
from accentor.errors import InvalidRequestError
from accentor.spec.identity import sha256_hex

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from accentor.engine.accentuation import Accentuation, View

VALUE_COLOR, DISTANCE_COLOR = "#b4530a", "#6d6d78"
PANEL_IN = 2.6
CELL_IN = 1.9
CURVE_IN = 2.0
LETTER_IN = 0.07
"""Width of a letter of a row's name."""

MAX_TITLE = 48

Cell = tuple[Image.Image, str]


def figure(result: "Accentuation") -> "Figure":
    """Return a figure: seed, accentuated, overlay and opacity in a row, value and distance over the steps below.

    Its ``axes`` are these four, the value's, and the distance's, which shares the value's steps.
    """
    height, width = result.pixels.shape[-2:]
    drawn = _new_figure((4 * PANEL_IN, PANEL_IN * min(height / width, 2.0) + CURVE_IN + 0.6))
    parts: Any = drawn.subfigures(2, 1, height_ratios=(PANEL_IN * min(height / width, 2.0) + 0.4, CURVE_IN))
    top, bottom = parts
    panels = (
        ("seed", result.seed_image),
        ("accentuated", result.image),
        ("overlay", result.what),
        ("opacity", result.opacity_image),
    )
    for axes, (title, picture) in zip(top.subplots(1, 4), panels, strict=True):
        _draw(axes, picture, title)
    plot_trajectory(result, bottom.subplots())
    seen = f"{_short(str(result.feature))}   {result.before:.4g} → {result.after:.4g}"
    drawn.suptitle(seen, parse_math=False)
    return drawn


def plot_trajectory(result: "Accentuation", axes: "Axes | None" = None) -> "Axes":
    """Draw the feature's value (left) and the distance to the seed (right, dashed) over the steps.

    Returns the value's axes. A dotted line stands where the activation target was reached.
    """
    if axes is None:
        axes = _new_figure((2 * PANEL_IN, CURVE_IN)).subplots()
    steps = [point.step for point in result.trajectory]
    axes.plot(steps, [point.value for point in result.trajectory], "o-", ms=4, color=VALUE_COLOR)
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("step")
    axes.set_ylabel("value", color=VALUE_COLOR)
    if result.stopped_at is not None:
        axes.axvline(result.stopped_at, color=VALUE_COLOR, lw=0.8, ls=":")
    right = axes.twinx()
    right.plot(steps, [point.distance for point in result.trajectory], "s--", ms=3, color=DISTANCE_COLOR)
    right.set_ylabel("distance to the seed", color=DISTANCE_COLOR)
    for one in (axes, right):
        one.spines["top"].set_visible(False)
    return axes


def figure_grid(
    results: "Sequence[Accentuation]",
    *,
    columns: Literal["images", "strengths"] = "images",
    view: "View" = "accentuated",
) -> "Figure":
    """Return a figure of many results: a row for each feature, a column for each image or for each strength.

    Parameters
    ----------
    results
        In the order of rows and columns: each feature and each image takes its place where it comes first. A second
        result of the same feature and image (another random seed or recipe) gets a column of its own.
    columns
        ``images``: the seeds stand in the first row. ``strengths``: a row for each result, of its sweep.
    view
        What is shown of each result, of a column of images.

    Raises
    ------
    ImportError
        If the extra ``plot`` is not installed.
    InvalidRequestError
        If there are no results, or strengths are asked for and a result has none or others than the rest.
    """
    if not results:
        raise InvalidRequestError("no results are given: expected at least one")
    if columns == "strengths":
        return _grid(*_strengths(results))
    if columns == "images":
        return _grid(*_images(results, view))
    raise InvalidRequestError(f"the columns are {columns!r}: expected images or strengths")


def _images(results: "Sequence[Accentuation]", view: "View") -> tuple[list[str], list[list[Cell | None]]]:
    seeds: dict[tuple[str, int], Image.Image] = {}
    rows: dict[str, dict[tuple[str, int], Cell]] = {}
    for result in results:
        row = rows.setdefault(str(result.feature), {})
        name = sha256_hex(result.source.numpy().tobytes())
        again = sum(key[0] == name for key in row)
        seeds.setdefault((name, again), result.seed_image)
        row[name, again] = (result.view(view), f"{result.before:.3g} → {result.after:.3g}")
    table = [[row.get(column) for column in seeds] for row in rows.values()]
    return ["seed", *rows], [[(seed, "") for seed in seeds.values()], *table]


def _strengths(results: "Sequence[Accentuation]") -> tuple[list[str], list[list[Cell | None]]]:
    expected = [point.strength for point in results[0].sweep]
    for result in results:
        found = [point.strength for point in result.sweep]
        if not found or found != expected:
            raise InvalidRequestError(f"{result.feature} has the strengths {found}: expected {expected or 'some'}")
    table: list[list[Cell | None]] = [
        [
            (picture, f"{point.strength:g}: {point.value:.3g}")
            for picture, point in zip(result.sweep_images, result.sweep, strict=True)
        ]
        for result in results
    ]
    return [str(result.feature) for result in results], table


def _grid(names: Sequence[str], table: "Sequence[Sequence[Cell | None]]") -> "Figure":
    count = len(table[0])
    side = LETTER_IN * max(len(_short(name)) for name in names)
    drawn = _new_figure((side + CELL_IN * count, CELL_IN * 1.15 * len(table)))
    grid = drawn.subplots(len(table), count, squeeze=False)
    for name, row, line in zip(names, table, grid, strict=True):
        for axes, cell in zip(line, row, strict=True):
            _draw(axes, *cell) if cell is not None else axes.set_axis_off()
        label = line[0].annotate(
            _short(name),
            (-0.06, 0.5),
            xycoords="axes fraction",
            ha="right",
            va="center",
            fontsize=8,
            annotation_clip=False,
        )
        label.set_parse_math(False)
    return drawn


def _draw(axes: "Axes", picture: Image.Image, title: str) -> None:
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    axes.set_title(title, fontsize=8)
    axes.set_axis_off()


def _short(text: str) -> str:
    return text if len(text) <= MAX_TITLE else f"{text[: MAX_TITLE - 1]}…"


def _new_figure(size_in: tuple[float, float]) -> "Figure":
    """Return a figure that draws itself with Agg, and that a notebook shows without pyplot."""
    figures: Any = needed("matplotlib.figure", "plot", "a figure")

    class Picture(figures.Figure):  # type: ignore[misc]
        """A figure that a notebook shows."""

        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png")
            return buffer.getvalue()

    drawn: Figure = Picture(figsize=size_in, layout="constrained")
    return drawn
