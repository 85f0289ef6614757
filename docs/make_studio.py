"""Make the pictures of docs/studio.md: the embedded service, used in headless Chromium.

.venv/bin/python docs/make_studio.py [studio] [atlases] [batches]
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page

from accentor.embedded import EmbeddedService
from accentor.engine.reference import sample_paths
from accentor_client import Client
from sheets import chromium, opened, rest, save_large, save_sheet

TALL = {"width": 1280, "height": 1180}
END_MS = 120_000
LIVE_STEPS = 300
DEADLINE_S = 1
LOOK_S = 0.5


def healthy(page: Page) -> None:
    """Wait until the page has heard that the service is well."""
    page.locator("#health[data-kind=good]").wait_for()


def sheet(browser: Browser, address: str, name: str, ready: Callable[[Page], object]) -> None:
    """Write a sheet of a page of the service."""

    def is_there(page: Page) -> None:
        healthy(page)
        ready(page)

    save_sheet(browser, address, f"studio-{name}", is_there)


def choose(page: Page, box: str, text: str) -> None:
    """Take the first of what a list offers for a text."""
    page.locator(box).click()
    page.locator(box).fill(text)
    page.locator(box).press("Enter")


def done(page: Page) -> None:
    """Wait for the end of an accentuation."""
    page.locator("#stage[data-state=done]").wait_for(timeout=END_MS)


def use(page: Page, label: str, scene: int) -> None:
    """Begin to accentuate a logit in a sample."""
    choose(page, "#unit", label)
    page.locator("#samples button").nth(scene).click()
    page.locator("#run").click()


def studio(browser: Browser, url: str) -> None:
    """Shoot the studio while a picture develops, and afterwards, with a shelf."""
    page = opened(browser, url)
    healthy(page)
    page.locator("#controls summary").click()
    page.locator("#steps").fill(str(LIVE_STEPS))
    page.locator("#controls summary").click()
    use(page, "dots", 1)
    page.locator("#stage[data-state=live]").wait_for()
    rest(page)
    save_large(page, "studio-live")
    page.reload()
    for label, scene in (("stripes", 0), ("scales", 4), ("star", 9)):
        use(page, label, scene)
        done(page)
        page.locator("#keep").click()
    page.locator("#shelf .open").last.click()
    done(page)
    page.set_viewport_size(TALL)
    rest(page)
    save_large(page, "studio-light")

    def used(page: Page) -> None:
        use(page, "stripes", 0)
        done(page)

    sheet(browser, url, "picture", used)


def batches(browser: Browser, url: str) -> None:
    """Shoot the list of batches, one that runs, and one that has failures."""
    with Client(url) as client:
        made = {"model": "reference", "recipe": "fast", "images": sample_paths()[:4]}
        client.batches.create(features=["logit:stripes", "logit:star", "logit:red"], **made).wait(timeout=600)
        long = client.batches.create(features={"layer": "block3"}, **made)
        while not long.refresh().counts.running:
            time.sleep(LOOK_S)
        late = client.batches.create(features=["logit:ring", "logit:disc"], deadline_s=DEADLINE_S, **made)
        while not late.refresh().state.terminal or long.refresh().counts.succeeded < 16:
            time.sleep(LOOK_S)
        sheet(browser, f"{url}/#/batches", "batches", lambda page: page.locator("#batch-rows tr").first.wait_for())
        sheet(
            browser, f"{url}/#/batches/{long.id}", "batch", lambda page: page.locator("#results img").first.wait_for()
        )
        long.cancel()
        sheet(
            browser,
            f"{url}/#/batches/{late.id}",
            "failures",
            lambda page: page.locator("#failures li").first.wait_for(),
        )


def fill_form(page: Page) -> None:
    """Ask for a small atlas."""
    page.locator("#atlas-estimate:not(:empty)").wait_for()
    choose(page, "#atlas-features", "block3-channels")
    page.locator("#atlas-top").fill("1")
    page.locator("#atlas-limit").fill("16")
    page.locator("#atlas-images").fill("0")
    page.locator("#atlas-recipe").select_option("fast")


def atlases(browser: Browser, url: str) -> None:
    """Shoot the library, the form, an atlas, the list of them, and its thumbnails in the studio."""
    with Client(url) as client:
        client.datasets.create("scenes", folder=sample_paths()[0].parent)
        client.dictionaries.create("block3-channels", model="reference", layer="block3", channels=True)
    sheet(browser, f"{url}/#/library", "library", lambda page: page.locator("#library table").last.wait_for())
    form = f"{url}/#/atlases/new?dataset=scenes"
    sheet(browser, form, "atlas-new", fill_form)
    page = opened(browser, form)
    fill_form(page)
    page.locator("#atlas-start").click()
    page.locator("#atlas-state[data-kind=succeeded]").wait_for(timeout=5 * END_MS)
    sheet(browser, page.url, "atlas", lambda page: page.locator("#atlas-cover").wait_for())
    sheet(browser, f"{url}/#/atlases", "atlases", lambda page: page.locator("#atlas-rows tr").first.wait_for())
    page = opened(browser, url)
    choose(page, "#layer", "block3-channels")
    choose(page, "#unit", "7")
    page.locator("#seen .tile").wait_for()
    page.locator("#unit").click()
    save_large(page, "studio-thumbnails")


def main() -> None:
    """Write the pictures of the parts that are named, or of all."""
    parts = {"studio": studio, "atlases": atlases, "batches": batches}
    with tempfile.TemporaryDirectory() as folder, EmbeddedService(Path(folder)) as service, chromium() as browser:
        for name in sys.argv[1:] or parts:
            parts[name](browser, service.url)


if __name__ == "__main__":
    main()
