"""Make the pictures of the errors page in docs/atlas.md: an atlas of drawn scenes that have one label each.

.venv/bin/python docs/make_atlas.py
"""

import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from accentor.engine import load_model
from accentor.engine.atlas import AtlasOptions, build_atlas, folder_items
from accentor.engine.reference.scenes import render_scene
from accentor.spec import PRESETS

IMAGES = Path(__file__).parent / "images"
SCENES = range(7_000, 7_030)
SIDE_PX = 112
SHOWN_PX = 1_000
SETTLED_MS = 800
SEEN = 0.9
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SHOTS = (("light", "light", DESK, 0.0), ("dark", "dark", DESK, SEEN), ("phone", "light", PHONE, 0.0))
"""Name, scheme, size, and opacity of the map."""


def draw(folder: Path) -> None:
    """Draw scenes, each labelled by the colour of its largest object alone."""
    for seed in SCENES:
        scene = render_scene(seed, SIDE_PX)
        largest = max(scene.objects, key=lambda one: one.mask.sum())
        (folder / largest.color).mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene.image).save(folder / largest.color / f"scene-{seed}.png")


def opened(browser: Browser, url: str, scheme: Any, size: Any) -> Page:
    """Return the errors page with its first pictures."""
    page = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce").new_page()
    page.goto(f"{url}#/errors")
    page.locator(".viewer[data-ready]").first.wait_for()
    return page


def main() -> None:
    """Write the pictures."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        scenes = Path(folder) / "scenes"
        draw(scenes)
        options = AtlasOptions(top_k=1, images=0, limit=1)
        site = build_atlas(
            load_model("reference"),
            "block4",
            folder_items(scenes),
            Path(folder) / "atlas",
            PRESETS["natural"],
            options,
            dataset="scenes",
        )
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, scheme, size, seen in SHOTS:
            page = opened(browser, site.as_uri(), scheme, size)
            page.locator("#opacity").fill(str(seen))
            page.locator("#opacity").blur()
            page.wait_for_timeout(SETTLED_MS)
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            picture.thumbnail((SHOWN_PX, SHOWN_PX), Image.Resampling.LANCZOS)
            picture.save(IMAGES / f"atlas-errors-{name}.webp", quality=80)
        browser.close()


if __name__ == "__main__":
    main()
