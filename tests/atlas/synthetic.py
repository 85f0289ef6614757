"""An atlas of drawn pictures whose pixels are known: frame k of a strip is the seed's colour, brighter by strength."""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw

from accentor.atlas import (
    Atlas,
    DepthPoint,
    ErrorEntry,
    FeatureEntry,
    Frame,
    Histogram,
    ImageEntry,
    ImageFeature,
    Shown,
)

STRENGTHS = (-1.0, 0.0, 0.5, 1.0, 2.0)
SIDE = 96
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><b>bold</b>"
PICTURES = 12


def color_at(picture: int, strength: float) -> tuple[int, int, int]:
    level = int(90 + 50 * strength)
    return (level, 40 + 12 * picture, 120)


def draw_pictures(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for picture in range(PICTURES):
        strip = Image.new("RGB", (SIDE * len(STRENGTHS), SIDE))
        for place, strength in enumerate(STRENGTHS):
            frame = Image.new("RGB", (SIDE, SIDE), color_at(picture, strength))
            draw = ImageDraw.Draw(frame)
            reach = int(16 + 12 * strength)
            draw.ellipse((48 - reach, 48 - reach, 48 + reach, 48 + reach), fill=(230, 200 - 12 * picture, 90))
            strip.paste(frame, (place * SIDE, 0))
        strip.save(folder / f"{picture}.webp", lossless=True)
        where = Image.new("RGBA", (SIDE, SIDE), (255, 255, 255, 0))
        ImageDraw.Draw(where).rectangle((24, 24, 72, 72), fill=(255, 255, 255, 255))
        where.save(folder / f"{picture}-where.webp", lossless=True)
        Image.new("RGB", (SIDE, SIDE), color_at(picture, 0)).save(folder / f"{picture}-seed.webp", lossless=True)


def shown(image: int, picture: int, **more) -> Shown:
    frames = tuple(
        Frame(strength=one, value=2 + 3 * one, percentile=min(100.0, 60 + 20 * one), distance=abs(one) * 1.5)
        for one in STRENGTHS
    )
    given = {
        "image": image,
        "value": 2.0,
        "box": (0.25, 0.25, 0.5, 0.5),
        "strip": f"{picture}.webp",
        "where": f"{picture}-where.webp",
        "width": SIDE,
        "height": SIDE,
        "frames": frames,
        "job": {"model": "reference", "feature": "channel:block4:1", "image": "ab" * 32, "seed": 0},
    }
    return Shown(**(given | more))


def features(count: int) -> Iterator[FeatureEntry]:
    side = max(1, int(count**0.5))
    for index in range(count):
        tops = tuple(shown((index + one) % PICTURES, (index + one) % PICTURES) for one in range(3))
        rest = (
            shown(5, 5, chosen="percentile", percentile=0.0, value=0.5, fires=False, marks=("dead-on-seed",)),
            shown(
                6, 6, chosen="percentile", percentile=50.0, strip=None, where=None, frames=(), failure="out of memory"
            ),
        )
        yield FeatureEntry(
            index=index,
            name=f"channel:block4:{index}",
            label=HOSTILE if index == 3 else ("stripes", "dots", "")[index % 3],
            x=index % side + 0.3 * (index % 7),
            y=index // side + 0.3 * (index % 5),
            nearest=tuple((index + one) % count for one in (1, 2, 3)) if count > 3 else (),
            mean=1.0,
            std=1.5,
            density=(index % 10) / 10,
            dead=index % 10 == 0,
            histogram=Histogram(low=0.0, high=6.0, counts=(80, 40, 12, 5, 2, 1)),
            coherence=(index * 37 % 100) / 100,
            depths=tuple(
                DepthPoint(layer=f"block{one}", coherence=0.2 * one, natural=0.15 * one, random=0.05 * one)
                for one in (1, 2, 3, 4)
            ),
            shown=tops + rest,
        )


def atlas(pictures: Path, count: int = 24, title: str = "An atlas of drawn discs") -> Atlas:
    draw_pictures(pictures)
    images = [
        ImageEntry(
            index=one,
            name=f"disc-{one:02d}.png",
            label="disc",
            predicted="ring" if one == 4 else "disc",
            sha256=f"{one:064x}",
            thumbnail=f"{one}-seed.webp",
            features=tuple(
                ImageFeature(
                    feature=(one + other) % count,
                    value=2.0,
                    percentile=98.0,
                    shown=shown(one, one, chosen="image") if other == 2 else None,
                )
                for other in range(min(4, count))
            ),
        )
        for one in range(PICTURES)
    ]
    errors = [
        ErrorEntry(
            image=4,
            truth="disc",
            predicted="ring",
            probability=0.7,
            shown_truth=shown(4, 4, chosen="error"),
            shown_predicted=shown(4, 8, chosen="error"),
        )
    ]
    return Atlas(
        title=title,
        model="reference",
        layer="block4",
        dictionary="block4",
        dataset="discs",
        features=features(count),
        pictures=pictures,
        recipe={"steps": 24},
        images=images,
        errors=errors,
        misclassified=130,
        gaps=("24 pictures could not be made: out of memory",),
    )
