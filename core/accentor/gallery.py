"""A page that shows accentuations side by side: seed, accentuated, where, and the value before and after."""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from accentor.spec import Snapshot

TEMPLATE = Path(__file__).parent / "gallery.html"
SPARK_WIDTH, SPARK_HEIGHT = 120, 28


@dataclass(frozen=True)
class Slide:
    """One strength of a sweep: its picture, and the feature's value there."""

    strength: float
    picture: str
    value: float


@dataclass(frozen=True)
class Exhibit:
    """One accentuation on the page; the pictures are named relative to the page."""

    feature: str
    title: str
    seed: str
    accentuated: str
    overlay: str
    before: float
    after: float
    trajectory: Sequence[Snapshot]
    width: int
    height: int
    notes: Sequence[str] = ()
    sweep: Sequence[Slide] = ()


def write_gallery(path: Path, exhibits: Iterable[Exhibit], *, title: str, subtitle: str) -> None:
    """Write the page: a section for each run of exhibits of the same feature; it needs nothing but its pictures."""
    cards = ((exhibit.feature, _card(number, exhibit)) for number, exhibit in enumerate(exhibits))
    sections = [
        f'<section><h2>{html.escape(name)}</h2><div class="grid">{"".join(card for _, card in group)}</div></section>'
        for name, group in groupby(cards, key=lambda one: one[0])
    ]
    page = TEMPLATE.read_text(encoding="utf-8")
    for name, value in (
        ("title", html.escape(title)),
        ("subtitle", html.escape(subtitle)),
        ("sections", "".join(sections)),
    ):
        page = page.replace(f"<!--{name}-->", value)
    path.write_text(page, encoding="utf-8")


def _card(number: int, exhibit: Exhibit) -> str:
    name = html.escape(f"{exhibit.feature} in {exhibit.title}", quote=True)
    size = f'width="{exhibit.width}" height="{exhibit.height}" loading="lazy"'
    seed, accentuated, overlay = (
        html.escape(source, quote=True) for source in (exhibit.seed, exhibit.accentuated, exhibit.overlay)
    )
    notes = "".join(f'<p class="note">{html.escape(note)}</p>' for note in exhibit.notes)
    return f"""
<article>
  <div class="pictures">
    <figure><img src="{seed}" alt="seed of {name}" {size}><figcaption>seed</figcaption></figure>
    <figure class="compare" tabindex="0" title="hover to see the seed">
      <img src="{accentuated}" alt="{name}, accentuated" {size}><img class="under" src="{seed}" alt="" {size}>
      <figcaption>accentuated</figcaption></figure>
    <figure class="where"><img class="ghost" src="{seed}" alt="" {size}>
      <img class="over" src="{overlay}" alt="{name}, where" {size}><figcaption>where</figcaption></figure>
  </div>
  <div class="numbers">
    <span class="name">{html.escape(exhibit.title)}</span>{_spark(exhibit.trajectory)}
    <span class="value">{exhibit.before:.3g}<i>→</i><b>{exhibit.after:.3g}</b></span>
  </div>{_slider(number, exhibit, name, size)}{notes}
</article>"""


def _slider(number: int, exhibit: Exhibit, name: str, size: str) -> str:
    """Return the sweep as a row of radio buttons, each with its picture: arrow keys slide, without a script."""
    if not exhibit.sweep:
        return ""
    chosen = max(range(len(exhibit.sweep)), key=lambda place: exhibit.sweep[place].strength)
    stops = "".join(
        f'<label><input type="radio" name="sweep-{number}"{" checked" if place == chosen else ""}>'
        f'<span class="stop">{slide.strength:g}</span>{_slide(slide, name, size)}</label>'
        for place, slide in enumerate(exhibit.sweep)
    )
    stop_count = len(exhibit.sweep)
    return f'<div class="sweep" style="--stops:{stop_count}" role="radiogroup" aria-label="strength">{stops}</div>'


def _slide(slide: Slide, name: str, size: str) -> str:
    picture = f'src="{html.escape(slide.picture, quote=True)}" alt="{name}, strength {slide.strength:g}" {size}'
    caption = f"strength {slide.strength:g}: {slide.value:.3g}"
    return f'<span class="slide"><img {picture}><span class="caption">{caption}</span></span>'


def _spark(trajectory: Sequence[Snapshot]) -> str:
    """Return the feature's value over the steps as a small line."""
    values = [point.value for point in trajectory]
    low, span = min(values), (max(values) - min(values)) or 1.0
    last = max(trajectory[-1].step, 1)
    points = " ".join(
        f"{2 + point.step / last * (SPARK_WIDTH - 4):.1f},"
        f"{SPARK_HEIGHT - 3 - (point.value - low) / span * (SPARK_HEIGHT - 6):.1f}"
        for point in trajectory
    )
    return (
        f'<svg class="spark" viewBox="0 0 {SPARK_WIDTH} {SPARK_HEIGHT}" role="img" aria-label="value over the steps">'
        f'<polyline points="{points}"/></svg>'
    )
