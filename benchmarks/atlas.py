"""Publishing 16,000 synthetic features, and the site in headless Chromium.

.venv/bin/python benchmarks/atlas.py [--features N] [--chromium PATH] [--out FOLDER]
"""

import argparse
import json
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from accentor.atlas import Atlas, FeatureEntry, Frame, Histogram, Shown, publish

STRENGTHS = (-1.0, 0.0, 0.5, 1.0)
SIDE = 224
DRAWN = 64
IMAGES = 6
PANS = 60
PAN_PX = 12
WANTED = {"publish_s": 600, "memory_mib": 2048, "first_picture_ms": 1000, "frame_ms": 50}


def draw(folder: Path) -> None:
    """Draw strips of the size of real ones."""
    folder.mkdir(parents=True)
    for picture in range(DRAWN):
        strip = Image.effect_noise((SIDE * len(STRENGTHS), SIDE), 60).convert("RGB")
        drawn = ImageDraw.Draw(strip)
        for place in range(len(STRENGTHS)):
            left = place * SIDE + 40
            drawn.ellipse((left, 40, left + 120, 160), fill=(picture * 3 + 40, 60 * place, 200 - picture * 2))
        strip.save(folder / f"{picture}.webp", quality=80, method=0)
        Image.new("RGBA", (SIDE, SIDE), (255, 255, 255, 128)).save(folder / f"{picture}-where.webp", method=0)


def features(count: int) -> Iterator[FeatureEntry]:
    """Make features that lie in clusters on the map."""
    frames = tuple(Frame(strength=one, value=one + 2, percentile=50, distance=abs(one)) for one in STRENGTHS)
    for index in range(count):
        shown = tuple(
            Shown(
                image=one,
                value=2,
                strip=f"{(index + one) % DRAWN}.webp",
                where=f"{(index + one) % DRAWN}-where.webp",
                width=SIDE,
                height=SIDE,
                frames=frames,
            )
            for one in range(IMAGES)
        )
        cluster = index % 97
        yield FeatureEntry(
            index=index,
            name=f"dictionary:sae#{index}",
            label=f"label {index % 300}",
            x=(cluster * 37 % 97) + (index * 7919 % 1000) / 400,
            y=(cluster * 61 % 97) + (index * 104729 % 1000) / 400,
            nearest=tuple((index + one) % count for one in range(1, 7)),
            mean=1,
            std=1,
            density=index % 100 / 100,
            histogram=Histogram(low=0, high=5, counts=tuple(range(32))),
            coherence=(index * 31 % 1000) / 1000,
            shown=shown,
        )


def measure_site(page: Path, chromium: str) -> dict[str, Any]:
    """Return milliseconds to the first picture, bytes before it, and those of frames while the map is dragged."""
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=arguments)
        tab = browser.new_page(viewport={"width": 1280, "height": 860})
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(page.as_uri(), wait_until="commit")
        while not tab.evaluate("Number(document.querySelector('.map-box')?.dataset.tiles) > 0"):
            tab.wait_for_timeout(10)
        first = tab.evaluate("performance.now()")
        pictures = [url for url in asked if url.endswith(".webp")]
        before = asked[: asked.index(pictures[0])]
        read = sum(
            (page.parent / url.split(page.parent.as_uri() + "/")[1]).stat().st_size for url in before if "file:" in url
        )
        box = tab.locator("canvas.map").bounding_box()
        assert box is not None
        frames: dict[str, list[float]] = {}
        for zoomed in range(3):
            tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            tab.evaluate(
                "() => { globalThis.times = []; let last = performance.now(); globalThis.run = true;"
                " const tick = () => { const now = performance.now(); times.push(now - last); last = now;"
                " if (run) requestAnimationFrame(tick); }; requestAnimationFrame(tick); }"
            )
            tab.mouse.down()
            for step in range(PANS):
                away = PAN_PX * (step if step < PANS / 2 else PANS - step)
                tab.mouse.move(box["x"] + box["width"] / 2 - away, box["y"] + box["height"] / 2 - away / 2)
            tab.mouse.move(box["x"] + 20, box["y"] + 20)
            tab.mouse.up()
            frames[str(zoomed)] = tab.evaluate("() => { run = false; return times.slice(2); }")
            tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            tab.mouse.wheel(0, -700)
            tab.wait_for_timeout(800)
        browser.close()
    every = sorted(time for times in frames.values() for time in times)
    return {
        "first_picture_ms": round(first),
        "before_first_picture_bytes": read,
        "frame_ms_median": round(statistics.median(every), 1),
        "frame_ms_p99": round(every[int(len(every) * 0.99) - 1], 1),
        "frames": len(every),
    }


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--features", type=int, default=16_000)
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = given.out or Path(folder)
        draw(root / "pictures")
        atlas = Atlas(
            title="16,000 features",
            model="synthetic",
            layer="layer",
            dictionary="sae",
            dataset="noise",
            features=(),
            pictures=root / "pictures",
        )
        started = time.perf_counter()
        page = publish(replace(atlas, features=features(given.features)), root / "site")
        found: dict[str, Any] = {
            "features": given.features,
            "publish_s": round(time.perf_counter() - started, 1),
            "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
        if given.chromium:
            found |= measure_site(page, given.chromium)
        print(json.dumps(found | {"wanted": WANTED}, indent=1))


if __name__ == "__main__":
    main()
