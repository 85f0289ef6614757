"""Results as HTML: a card in a notebook, and a gallery of many."""

import base64
import html
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from accentor.engine.accentuation import Accentuation
from accentor.engine.outputs.files import webp
from accentor.errors import InvalidRequestError
from accentor.gallery import Exhibit, Slide, write_gallery

SIDE_PX = 240
_DIM = "opacity:.65;font-size:85%"


def card(result: Accentuation) -> str:
    """Return a result as HTML: seed, accentuated, overlay, and the numbers; self-contained, its text escaped."""
    panels = (("seed", result.seed_image), ("accentuated", result.image), ("overlay", result.what))
    pictures = "".join(_panel(result, name, picture) for name, picture in panels)
    notes = "".join(f'<div style="{_DIM}">{html.escape(note)}</div>' for note in result.notes)
    return (
        f'<div style="display:inline-block;margin:4px 12px 12px 0"><div><code>{html.escape(str(result.feature))}</code>'
        f" &ensp; {result.before:.4g} → <b>{result.after:.4g}</b></div>"
        f'<div style="white-space:nowrap">{pictures}</div><div style="{_DIM}">{html.escape(_numbers(result))}</div>'
        f"{notes}</div>"
    )


def _panel(result: Accentuation, name: str, picture: Image.Image) -> str:
    alt = html.escape(f"{name}: {result.feature}", quote=True)
    image = f'<img src="{data_uri(picture)}" alt="{alt}" style="width:{SIDE_PX}px;max-width:30vw;display:block">'
    caption = f'<figcaption style="{_DIM}">{name}</figcaption>'
    return f'<figure style="margin:0 8px 0 0;display:inline-block">{image}{caption}</figure>'


class Gallery:
    """Results that a notebook shows together, and that become a page. Made by `gallery`."""

    def __init__(self, results: tuple[Accentuation, ...]) -> None:
        self.results = results

    def _repr_html_(self) -> str:
        return "".join(map(card, self.results))

    def save(self, path: str | Path, *, title: str = "What does this feature see in this image?") -> Path:
        """Write a page that holds all its pictures, those of a feature together; return its path.

        A result with a sweep has a slider of strengths.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        count = len(self.results)
        subtitle = (
            f"{count} accentuation{'s' if count > 1 else ''}. For each: the seed, the accentuated picture, where."
        )
        places = {feature: place for place, feature in reversed([*enumerate(str(one.feature) for one in self.results)])}
        together = sorted(self.results, key=lambda result: places[str(result.feature)])
        write_gallery(target, map(_exhibit, together), title=title, subtitle=subtitle)
        return target


def gallery(results: Iterable[Accentuation]) -> Gallery:
    """Return results as a gallery: a notebook shows them together, and ``save(path)`` writes a page.

    Raises
    ------
    InvalidRequestError
        If there are none.
    """
    shown = tuple(results)
    if not shown:
        raise InvalidRequestError("no results are given: expected at least one")
    return Gallery(shown)


def data_uri(picture: Image.Image) -> str:
    """Return the picture as a data URI (WebP)."""
    return f"data:image/webp;base64,{base64.b64encode(webp(picture)).decode()}"


def _exhibit(result: Accentuation) -> Exhibit:
    height, width = result.pixels.shape[-2:]
    slides = zip(result.sweep, result.sweep_images, strict=True)
    return Exhibit(
        feature=str(result.feature),
        title=_numbers(result),
        seed=data_uri(result.seed_image),
        accentuated=data_uri(result.image),
        overlay=data_uri(result.overlay),
        before=result.before,
        after=result.after,
        trajectory=result.trajectory,
        width=width,
        height=height,
        notes=result.notes,
        sweep=[Slide(point.strength, data_uri(picture), point.value) for point, picture in slides],
    )


def _numbers(result: Accentuation) -> str:
    last = result.trajectory[-1]
    stopped = ", target reached" if result.stopped_at is not None else ""
    model = f", {result.model}" if result.model else ""
    return f"{last.step} steps{stopped}, distance {last.distance:.3g}, random seed {result.seed}{model}"
