"""The service's own pages, used in Chromium on the whole service."""

import json

import pytest

from accentor.engine.reference import sample_paths
from accentor_client import Client

pytestmark = pytest.mark.service

QUICK = {"steps": 4, "crops": 2, "size": 64, "snapshots": 1}


@pytest.fixture
def studio(page, embedded):
    page.goto(embedded.url)
    page.locator("#samples button").first.wait_for()
    return page


def settings(page, **values):
    page.locator("details").evaluate("node => { node.open = true }")
    for name, value in values.items():
        page.locator(f"#{name}").fill(str(value))


def choose(page, box, text):
    page.locator(box).click()
    page.locator(box).fill(text)
    page.locator(box).press("Enter")


def accentuate(page, scene=0):
    page.locator("#samples button").nth(scene).click()
    page.locator("#run").click()
    page.locator("#stage[data-state=done]").wait_for(timeout=60_000)


def test_a_picture_develops_live_and_is_compared(studio):
    settings(studio, steps=120, seed=1)
    choose(studio, "#unit", "dots")
    assert studio.locator("#feature").input_value() == "logit:dots"
    studio.locator("#samples button").nth(1).click()
    studio.locator("#run").click()
    studio.locator("#stage[data-state=live]").wait_for()
    assert studio.locator("#result-image").get_attribute("src").startswith("data:image/webp;base64,")
    assert 0 < studio.locator("#progress").evaluate("node => node.value") < 120
    studio.locator("#stage[data-state=done]").wait_for(timeout=60_000)

    before, after = (float(studio.locator("#figures dd").nth(at).inner_text().replace("−", "-")) for at in (0, 1))
    assert after > before + 1

    box = studio.locator("#split").bounding_box()
    middle = box["y"] + box["height"] / 2
    studio.mouse.move(box["x"] + box["width"] / 2, middle)
    studio.mouse.down()
    studio.mouse.move(box["x"] + box["width"] * 0.2, middle, steps=5)
    studio.mouse.up()
    assert 15 < float(studio.locator("#split").input_value()) < 25
    clip = studio.locator("#result-image").evaluate("node => getComputedStyle(node).clipPath")
    assert 15 < float(clip.split()[-1].rstrip("%)")) < 25


def test_shelf_keeps_and_reopens(studio):
    settings(studio, steps=4, crops=2, size=64)
    accentuate(studio, 2)
    studio.locator("#keep").click()
    studio.locator("#shelf li").wait_for()
    studio.reload()
    studio.locator("#shelf li .open").click()
    studio.locator("#stage[data-state=done]").wait_for()
    assert studio.locator("#feature").input_value() == "logit:stripes"
    studio.locator("#shelf li").hover()
    studio.locator("#shelf .drop-one").click()
    studio.locator("#shelf-empty").wait_for()


def test_copied_json_is_the_job(studio, embedded):
    studio.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=embedded.url)
    settings(studio, steps=4, crops=2, size=64)
    studio.locator("[value=suppress]").check()
    accentuate(studio, 3)
    studio.locator("[data-copy=json]").click()
    spec = json.loads(studio.evaluate("navigator.clipboard.readText()"))
    assert spec["feature"] == "-logit:stripes"
    assert spec["recipe"] == {"steps": 4, "crops": 2, "size": 64}
    with Client(embedded.url) as client:
        result = client.jobs.create(**spec).wait(timeout=30).result
    shown = [studio.locator("#figures dd").nth(at).inner_text().replace("−", "-") for at in (0, 1)]
    assert [float(text) for text in shown] == pytest.approx([result.before, result.after], rel=0.01)


def test_a_batch_is_listed_and_shows_its_results(studio, embedded):
    with Client(embedded.url) as client:
        batch = client.batches.create(
            model="reference", features=["logit:star", "logit:heart"], images=sample_paths()[:2], recipe=QUICK
        ).wait(timeout=60)
    studio.get_by_role("link", name="Batches").click()
    studio.locator(f"#batch-rows [href='#/batches/{batch.id}']").click()
    studio.locator("#batch-state[data-kind=succeeded]").wait_for()
    studio.locator("#results li").nth(3).wait_for()
    assert studio.locator("#results li").count() == 4
    assert studio.locator("#failures-part").is_hidden()
    with studio.expect_download() as download:
        studio.get_by_role("link", name="pictures (zip)").click()
    assert download.value.suggested_filename == f"{batch.id}.zip"
