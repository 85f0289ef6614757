"""From the click to the first live preview, on a warm worker with the reference model, in headless Chromium.

.venv/bin/python benchmarks/studio.py [--runs N] [--chromium PATH]
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from accentor.embedded import EmbeddedService

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
END_MS = 120_000
PAUSE_MS = 1_000
WANTED_MS = 1_000
SCENES = 6

WATCH = """() => {
  globalThis.seen = new Promise((resolve) => {
    const image = document.getElementById("result-image");
    const look = new MutationObserver(() => {
      if (!image.src.startsWith("data:")) return;
      look.disconnect();
      image.decode().then(() => requestAnimationFrame(() => resolve(performance.now() - globalThis.clicked)));
    });
    look.observe(image, { attributes: true, attributeFilter: ["src"] });
  });
  const click = () => { globalThis.clicked = performance.now(); };
  document.getElementById("run").addEventListener("click", click, { once: true, capture: true });
}"""


def measure(url: str, chromium: str, runs: int) -> list[float]:
    """Return milliseconds from click to first preview on the screen, of each run but the first, which warms up."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.goto(url)
        page.locator("details").evaluate("node => { node.open = true }")
        times = []
        for run in range(runs + 1):
            page.locator("#samples button").nth(run % SCENES).click()
            page.locator("#seed").fill(str(run + 1))
            page.wait_for_timeout(PAUSE_MS)
            page.evaluate(WATCH)
            page.locator("#run").click()
            times.append(page.evaluate("seen"))
            page.locator("#stage[data-state=done]").wait_for(timeout=END_MS)
        browser.close()
    return times[1:]


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    given = parser.parse_args()
    if given.chromium is None:
        parser.error("chromium is not on PATH: install the package chromium, or name it with --chromium")
    with tempfile.TemporaryDirectory() as folder, EmbeddedService(Path(folder)) as service:
        times = sorted(measure(service.url, given.chromium, given.runs))
    found: dict[str, Any] = {
        "runs": len(times),
        "first_preview_ms_median": round(statistics.median(times)),
        "first_preview_ms_largest": round(times[-1]),
        "wanted_ms": WANTED_MS,
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
