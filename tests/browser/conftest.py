"""Debian's Chromium, headless, and a page of it that fails on an error of the scripts or a request to elsewhere."""

import os
import shutil
from collections.abc import Iterator

import pytest

from accentor.embedded import EmbeddedService

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TIMEOUT_MS = 15_000


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """Chromium, closed after each module: Playwright's event loop would be in the way of tests that run their own."""
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is not on PATH: apt-get install chromium")
        pytest.skip("chromium is not on PATH: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser) -> Iterator:
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    page = context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    faults, asked = [], []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: asked.append(request.url))
    yield page
    context.close()
    assert not faults, faults
    assert all(url.startswith(("file:", "data:", "blob:", "http://127.0.0.1:")) for url in asked), asked


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedService]:
    """The whole service on this machine with the reference model."""
    with EmbeddedService(tmp_path_factory.mktemp("embedded")) as service:
        yield service
