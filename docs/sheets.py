"""What docs/make_atlas.py and docs/make_studio.py share: pictures of a page as it is on a desktop and on a phone."""

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

IMAGES = Path(__file__).parent / "images"
DESK, PHONE = ViewportSize(width=1280, height=900), ViewportSize(width=390, height=844)
SHEET_PX, GAP_PX, QUALITY = 450, 8, 75
SHOWN_PX = 1_000
SETTLED_MS = 800
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Chromium, headless."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        yield browser
        browser.close()


def opened(browser: Browser, url: str, scheme: Any = "light", size: ViewportSize = DESK) -> Page:
    """Return a page in a context of its own."""
    page = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce").new_page()
    page.goto(url)
    return page


def screen(page: Page) -> Image.Image:
    """Return what is on the screen, once it is at rest."""
    page.wait_for_timeout(SETTLED_MS)
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def rest(page: Page) -> None:
    """Take the focus and the mouse from what was used last, and go to the top."""
    page.evaluate("document.activeElement.blur()")
    page.mouse.move(0, 0)
    page.evaluate("scrollTo(0, 0)")


def save(picture: Image.Image, name: str) -> None:
    """Write a picture of the documents."""
    picture.save(IMAGES / f"{name}.webp", quality=QUALITY, method=6)


def save_large(page: Page, name: str) -> None:
    """Write what is on the screen."""
    picture = screen(page)
    picture.thumbnail((SHOWN_PX, SHOWN_PX), Image.Resampling.LANCZOS)
    save(picture, name)


def side_by_side(pictures: list[Image.Image]) -> Image.Image:
    """Return pictures at one height in a row, on grey."""
    small = [
        one.resize((round(one.width * SHEET_PX / one.height), SHEET_PX), Image.Resampling.LANCZOS) for one in pictures
    ]
    sheet = Image.new("RGB", (sum(one.width for one in small) + GAP_PX * (len(small) - 1), SHEET_PX), "grey")
    x = 0
    for one in small:
        sheet.paste(one, (x, 0))
        x += one.width + GAP_PX
    return sheet


def save_sheet(browser: Browser, url: str, name: str, ready: Callable[[Page], None]) -> None:
    """Write a page on a desktop and a phone, light and dark; `ready` brings it to where it is shown."""
    shots = []
    for size in (DESK, PHONE):
        for scheme in ("light", "dark"):
            page = opened(browser, url, scheme, size)
            ready(page)
            rest(page)
            shots.append(screen(page))
            page.context.close()
    save(side_by_side(shots), name)
