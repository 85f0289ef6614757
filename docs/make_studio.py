"""Make the pictures of docs/studio.md: the embedded service, used in headless Chromium.

.venv/bin/python docs/make_studio.py [studio] [atlases] [batches]
"""

import io
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from accentor.embedded import EmbeddedService
from accentor.engine.reference import sample_paths
from accentor_client import Client

IMAGES = Path(__file__).parent / "images"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
TALL = {"width": 1280, "height": 1180}
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SHOWN_PX = 1_000
END_MS = 120_000
SETTLED_MS = 800
DEADLINE_S = 1
LOOK_S = 0.5


def shoot(page: Page, name: str, *, is_focused: bool = False) -> None:
    """Write what is on the screen, small; a list stays open while its box has the focus."""
    if not is_focused:
        page.evaluate("document.activeElement.blur()")
    page.wait_for_timeout(SETTLED_MS)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.thumbnail((SHOWN_PX, SHOWN_PX), Image.Resampling.LANCZOS)
    picture.save(IMAGES / f"studio-{name}.webp", quality=80)


def opened(browser: Browser, url: str, scheme: str, size: Any, place: str = "") -> Page:
    """Return a page of the service."""
    page = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce").new_page()
    page.goto(f"{url}/{place}")
    page.locator("#health[data-kind=good]").wait_for()
    return page


def choose(page: Page, box: str, text: str) -> None:
    """Take the first of what a list offers for a text."""
    page.locator(box).click()
    page.locator(box).fill(text)
    page.locator(box).press("Enter")


def use(page: Page, label: str, scene: int) -> None:
    """Accentuate a logit in a sample and wait for the first preview or the end."""
    choose(page, "#unit", label)
    page.locator("#samples button").nth(scene).click()
    page.locator("#run").click()
    page.locator("#stage[data-state=live], #stage[data-state=done]").wait_for()


def studio(browser: Browser, url: str) -> None:
    """Shoot the studio while a picture develops, and afterwards."""
    page = opened(browser, url, "light", DESK)
    use(page, "dots", 1)
    page.wait_for_timeout(SETTLED_MS)
    shoot(page, "live")
    page.locator("#stage[data-state=done]").wait_for(timeout=END_MS)
    for label, scene in (("stripes", 0), ("scales", 4), ("star", 9)):
        use(page, label, scene)
        page.locator("#stage[data-state=done]").wait_for(timeout=END_MS)
        page.locator("#keep").click()
    page.locator("#shelf .open").last.click()
    page.locator("#stage[data-state=done]").wait_for()
    page.set_viewport_size(TALL)
    page.evaluate("scrollTo(0, 0)")
    shoot(page, "light")
    for scheme, size, name, view in (("dark", DESK, "dark", "where"), ("light", PHONE, "phone", "compare")):
        page = opened(browser, url, scheme, size)
        use(page, "stripes", 0)
        page.locator("#stage[data-state=done]").wait_for(timeout=END_MS)
        page.locator(f"#views [value={view}]").check(force=True)
        page.evaluate("scrollTo(0, 0)")
        shoot(page, name)


def batches(browser: Browser, url: str) -> None:
    """Shoot the list of batches, one that runs, and one that has failures."""
    with Client(url) as client:
        made = {"model": "reference", "recipe": "fast", "images": sample_paths()[:4]}
        client.batches.create(features=["logit:stripes", "logit:star", "logit:red"], **made).wait(timeout=600)
        long = client.batches.create(features={"layer": "block3"}, **made)
        while not long.refresh().counts.running:
            time.sleep(LOOK_S)
        late = client.batches.create(features=["logit:ring", "logit:disc"], deadline_s=DEADLINE_S, **made)
        while not late.refresh().state.terminal:
            time.sleep(LOOK_S)
        shoot(opened(browser, url, "light", DESK, "#/batches"), "batches")
        shoot(opened(browser, url, "dark", DESK, f"#/batches/{late.id}"), "failures")
        while long.refresh().counts.succeeded < 16:
            time.sleep(LOOK_S)
        shoot(opened(browser, url, "light", DESK, f"#/batches/{long.id}"), "batch")
        long.cancel()


def atlases(browser: Browser, url: str) -> None:
    """Shoot the library, the form, an atlas that is made, and one that is there, with its thumbnails in the studio."""
    with Client(url) as client:
        client.datasets.create("scenes", folder=sample_paths()[0].parent)
        client.dictionaries.create("block3-channels", model="reference", layer="block3", channels=True)
        shoot(opened(browser, url, "light", DESK, "#/library"), "library")
        page = opened(browser, url, "dark", DESK, "#/atlases/new?dataset=scenes")
        page.locator("#atlas-estimate:not(:empty)").wait_for()
        choose(page, "#atlas-features", "block3-channels")
        page.locator("#atlas-top").fill("1")
        page.locator("#atlas-limit").fill("16")
        page.locator("#atlas-images").fill("0")
        page.locator("#atlas-recipe").select_option("fast")
        shoot(page, "atlas-new")
        page.locator("#atlas-start").click()
        page.locator("#atlas-steps li[aria-current]:has-text('accentuate') progress").wait_for(timeout=END_MS)
        page.wait_for_function(
            "() => document.querySelector('#atlas-steps [aria-current] progress')?.value > 15", timeout=5 * END_MS
        )
        shoot(page, "atlas")
        page.locator("#atlas-state[data-kind=succeeded]").wait_for(timeout=5 * END_MS)
        page = opened(browser, url, "light", DESK, page.url.removeprefix(f"{url}/"))
        page.locator("#atlas-cover").wait_for()
        shoot(page, "atlas-done")
    page = opened(browser, url, "light", DESK)
    choose(page, "#layer", "block3-channels")
    choose(page, "#unit", "7")
    page.locator("#seen .tile").wait_for()
    page.locator("#unit").click()
    shoot(page, "thumbnails", is_focused=True)


def main() -> None:
    """Write the pictures of the parts that are named, or of all."""
    parts = {"studio": studio, "atlases": atlases, "batches": batches}
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedService(Path(folder)) as service,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        for name in sys.argv[1:] or parts:
            parts[name](browser, service.url)
        browser.close()


if __name__ == "__main__":
    main()
