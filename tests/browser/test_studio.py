"""The service's own pages, used in Chromium on the whole service."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.servers import wait_until

from accentor import parse_feature
from accentor.engine.reference import sample_paths
from accentor_client import Client

pytestmark = pytest.mark.service

QUICK = {"steps": 4, "crops": 2, "size": 64, "snapshots": 1}
PHONE = {"width": 360, "height": 740}
END_MS = 60_000


@pytest.fixture
def studio(page, embedded):
    open_studio(page, embedded.url)
    return page


def open_studio(page, url):
    page.goto(url)
    page.locator("#samples button").first.wait_for()
    page.locator("#stage[data-state]").wait_for()


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
    page.locator("#stage[data-state=done]").wait_for(timeout=END_MS)


def figures(page):
    return [float(page.locator("#figures dd").nth(at).inner_text().replace("−", "-")) for at in (0, 1)]


def hold(page, pattern):
    """Hold the next request of a script back; return a list that it is put into."""
    held = []

    def take(route):
        is_held = not held and route.request.resource_type == "fetch"
        held.append(route) if is_held else route.fallback()

    page.route(pattern, take)
    return held


def let_go(page, held):
    with page.expect_response(held[0].request.url):
        held[0].continue_()
    page.wait_for_timeout(500)


def drag_split(page, share):
    page.locator("#split").scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    box = page.locator("#split").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * share, middle, steps=5)
    page.mouse.up()


def test_a_picture_develops_live_and_is_compared(studio):
    settings(studio, steps=120, seed=1)
    choose(studio, "#unit", "dots")
    assert studio.locator("#feature").input_value() == "logit:dots"
    studio.locator("#samples button").nth(1).click()
    studio.locator("#run").click()
    studio.locator("#stage[data-state=live]").wait_for()
    assert studio.locator("#result-image").get_attribute("src").startswith("data:image/webp;base64,")
    assert 0 < studio.locator("#progress").evaluate("node => node.value") < 120
    studio.locator("#stage[data-state=done]").wait_for(timeout=END_MS)
    before, after = figures(studio)
    assert after > before + 1

    drag_split(studio, 0.2)
    assert 15 < float(studio.locator("#split").input_value()) < 25
    clip = studio.locator("#result-image").evaluate("node => getComputedStyle(node).clipPath")
    assert 15 < float(clip.split()[-1].rstrip("%)")) < 25
    studio.locator("#split").press("ArrowRight")
    assert float(studio.locator("#split").input_value()) < 26

    for view, shown in (("where", "#overlay-image"), ("opacity", "#opacity-image"), ("difference", "#result-image")):
        studio.locator(f"#views [value={view}]").check(force=True)
        assert studio.locator(shown).evaluate("node => node.naturalWidth > 0 && getComputedStyle(node).visibility") == (
            "visible"
        )


def test_the_seed_is_compared_at_the_size_of_the_result(studio):
    settings(studio, steps=4, crops=2, size=64)
    accentuate(studio)
    studio.wait_for_timeout(500)
    sizes = studio.locator("#seed-image, #result-image").evaluate_all("nodes => nodes.map(node => node.naturalWidth)")
    assert sizes == [64, 64]


def test_layers_and_channels_are_searched_by_keyboard(studio):
    choose(studio, "#layer", "block2")
    assert studio.locator("#unit-label").inner_text() == "Unit"
    studio.locator("#unit").click()
    studio.locator("#unit").fill("12")
    assert studio.locator("#unit-options [role=option]").first.inner_text().split()[0] == "12"
    studio.locator("#unit").press("Enter")
    assert studio.locator("#feature").input_value() == "channel:block2:12"
    studio.locator("#unit").press("ArrowDown")
    studio.locator("#unit").press("ArrowDown")
    studio.locator("#unit").press("Enter")
    assert studio.locator("#feature").input_value() != "channel:block2:12"
    studio.locator("#unit").fill("no such")
    studio.get_by_text("nothing of that name").wait_for()
    studio.locator("#unit").press("Escape")
    assert studio.locator("#unit").input_value() != "no such"


def test_a_feature_that_repeats_another_is_found_by_its_label(page, embedded, tmp_path):
    np.save(tmp_path / "rows.npy", np.eye(3, 88, dtype=np.float32)[[0, 1, 1]])
    with Client(embedded.url) as client:
        labels = ["ear", "eye", "eye again"]
        client.dictionaries.create("twice", tmp_path / "rows.npy", model="reference", layer="block2", labels=labels)
    open_studio(page, embedded.url)
    choose(page, "#layer", "twice")
    page.locator("#unit").click()
    page.locator("#unit").fill("again")
    page.locator("#unit-options li:has-text('eye again')").click()
    assert page.locator("#feature").input_value() == "dictionary:twice#2"


def test_a_dictionary_is_searched_by_label(page, embedded):
    with Client(embedded.url) as client:
        labels = [f"channel {'abcdefgh'[unit % 8]}{unit}" for unit in range(88)]
        client.dictionaries.create("bank", model="reference", layer="block2", channels=True, labels=labels)
    open_studio(page, embedded.url)
    settings(page, steps=4, crops=2, size=64)
    choose(page, "#layer", "bank")
    page.locator("#unit").click()
    page.locator("#unit").fill("h79")
    page.locator("#unit-options li:has-text('channel h79')").click()
    assert page.locator("#feature").input_value() == "dictionary:bank#79"
    accentuate(page)
    page.locator("#keep").click()
    page.reload()
    page.locator("#shelf .open").click()
    page.locator("#stage[data-state=done]").wait_for()
    assert page.locator("#layer").input_value() == "bank"


def shown_feature(page):
    boxes = {name: page.locator(f"#{name}").input_value() for name in ("layer", "unit", "feature")}
    return {**boxes, "run": page.locator("#run").inner_text()}


def test_a_suppressed_feature_of_a_dictionary_is_shown_in_the_boxes(page, embedded):
    open_studio(page, embedded.url)
    with Client(embedded.url) as client:
        client.dictionaries.create("turned", model="reference", layer="block2", channels=True)
        job = client.jobs.create(
            model="reference", feature="-dictionary:turned#3", image=sample_paths()[0], recipe=QUICK
        ).wait(timeout=60)
    page.reload()
    page.goto(f"{embedded.url}/#/?feature=-dictionary:turned%233")
    expected = {"layer": "turned", "unit": "3", "feature": "dictionary:turned#3", "run": "Suppress"}
    page.wait_for_function("() => document.getElementById('unit').value === '3'")
    assert shown_feature(page) == expected
    page.goto(f"{embedded.url}/#/?feature=logit:star")
    page.wait_for_function("() => document.getElementById('unit').value === 'star'")
    assert shown_feature(page) == {"layer": "logits", "unit": "star", "feature": "logit:star", "run": "Accentuate"}
    page.goto(f"{embedded.url}/#/?job={job.id}")
    page.locator("#stage[data-state=done]").wait_for()
    pinned = str(job.status.spec.feature)
    expected["feature"] = pinned.removeprefix("-")
    assert shown_feature(page) == expected
    page.locator("#keep").click()
    with page.expect_request("**/v1/jobs") as asked:
        page.locator("#run").click()
    assert asked.value.post_data_json["feature"] == pinned
    page.reload()
    page.locator("#shelf .open").click()
    page.locator("#stage[data-state=done]").wait_for()
    assert shown_feature(page) == expected


def test_a_suppressed_sum_is_shown_as_it_is_written(studio, embedded):
    studio.goto(f"{embedded.url}/#/?feature=-logit:star - logit:heart")
    studio.wait_for_function("() => document.getElementById('unit').value === ''")
    assert studio.locator("#feature").input_value() == "-logit:star - logit:heart"
    assert studio.locator("#run").inner_text() == "Accentuate"


def test_a_sample_that_is_still_coming_is_waited_for(studio):
    settings(studio, steps=4, crops=2, size=64)
    accentuate(studio, 5)
    studio.route("**/samples/scene-05.png", lambda route: (studio.wait_for_timeout(700), route.continue_()))
    studio.locator("#samples button").nth(4).click()
    studio.locator("#run").click()
    studio.get_by_text("logit:stripes in scene-05.png").wait_for()


DROP = """async (name) => {
  const transfer = new DataTransfer();
  const blob = await (await fetch(`/static/samples/${name}`)).blob();
  transfer.items.add(new File([blob], "dropped.png", { type: "image/png" }));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""


def test_a_picture_is_dropped_or_chosen(studio):
    settings(studio, steps=4, crops=2, size=64)
    studio.evaluate(DROP, sample_paths()[3].name)
    studio.locator("#picture-name:text('dropped.png')").wait_for()
    assert studio.locator("#seed-image").evaluate("async node => (await node.decode(), node.naturalWidth)") > 0
    studio.locator("#file").set_input_files(sample_paths()[20])
    studio.get_by_text(sample_paths()[20].name).wait_for()
    studio.locator("#run").click()
    studio.locator("#stage[data-state=done]").wait_for(timeout=END_MS)
    assert studio.locator("#state").inner_text() == f"logit:stripes in {sample_paths()[20].name}"


def test_shelf_keeps_and_reopens_with_all_that_it_was_made_from(studio):
    settings(studio, steps=5, crops=3, size=64, seed=7)
    choose(studio, "#unit", "red")
    accentuate(studio, 2)
    made = figures(studio)
    studio.locator("#keep").click()
    studio.locator("#shelf li").wait_for()
    studio.reload()
    studio.locator("#shelf li img[src^='data:image/webp']").wait_for()
    studio.locator("#shelf li .open").click()
    studio.locator("#stage[data-state=done]").wait_for()
    assert figures(studio) == made
    settled = {name: studio.locator(f"#{name}").input_value() for name in ("feature", "unit", "steps", "crops", "seed")}
    assert settled == {"feature": "logit:red", "unit": "red", "steps": "5", "crops": "3", "seed": "7"}
    studio.locator("#shelf li").hover()
    studio.locator("#shelf .drop-one").click()
    studio.locator("#shelf-empty").wait_for()


def test_what_is_copied_is_the_job(studio, embedded):
    studio.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=embedded.url)
    settings(studio, steps=4, crops=2, size=64)
    studio.locator("[value=suppress]").check()
    studio.locator("#recipe").select_option("fast")
    settings(studio, size=64)
    accentuate(studio, 3)
    studio.locator("[data-copy=json]").click()
    studio.locator("[data-copy=json]:text('Copied')").wait_for()
    spec = json.loads(studio.evaluate("navigator.clipboard.readText()"))
    assert spec["feature"] == "-logit:stripes"
    assert spec["recipe"]["size"] == 64
    with Client(embedded.url) as client:
        result = client.jobs.create(**spec).wait(timeout=30).result
    assert figures(studio) == pytest.approx([result.before, result.after], rel=0.01)


def run_copied(studio, kind, folder):
    """Run what is copied as curl or Python in a folder; return what it prints."""
    studio.locator(f"[data-copy={kind}]").click()
    studio.locator(f"[data-copy={kind}]:text('Copied')").wait_for()
    text = studio.evaluate("navigator.clipboard.readText()")
    if kind == "python":
        text = text.replace("job.result.overlay.show()", "print(job.state, job.status.spec.image)")
    command = ["bash", "-ec", text] if kind == "curl" else [sys.executable, "-c", text]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on PATH")
@pytest.mark.parametrize("kind", ["curl", "python"])
def test_what_is_copied_runs_with_a_file_beside_it_and_with_a_sample(studio, embedded, tmp_path, kind):
    studio.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=embedded.url)
    settings(studio, steps=4, crops=2, size=64)
    accentuate(studio, 2)
    sample = run_copied(studio, kind, tmp_path)
    path = Path(shutil.copy(sample_paths()[2], tmp_path / "it's 1.png"))
    studio.locator("#file").set_input_files(path)
    studio.locator('#picture-name:text("it\'s 1.png")').wait_for()
    studio.locator("#run").click()
    studio.locator("#stage[data-state=done]").wait_for(timeout=END_MS)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    of_file = run_copied(studio, kind, tmp_path)
    if kind == "python":
        assert sample == of_file == f"succeeded {digest}\n"
    else:
        assert json.loads(sample)["state"] == "succeeded"
        assert of_file.startswith(f'{{"id":"{digest}"')
        assert '"state":"succeeded"' in of_file


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("logit:golden retriever", "-logit:golden retriever"),
        ("-logit:3", "logit:3"),
        ("logit:1 - 0.5*logit:2", "-logit:1 + 0.5*logit:2"),
        ("channel:block2:3@4:9,2:7 * logit:1", "-channel:block2:3@4:9,2:7 * logit:1"),
        ("-direction:a-b:v.npy#3 + logit:x-y", "direction:a-b:v.npy#3 - logit:x-y"),
    ],
)
def test_suppressing_turns_every_sign(studio, written, expected):
    negated = studio.evaluate("async text => (await import('/static/js/forms.js')).negated(text)", written)
    assert negated == expected


@pytest.mark.parametrize(
    "form",
    [
        "logit:stripes",
        "-logit:3",
        "channel:block2:3@4:9,2:7",
        "neuron:block2:3@2,5",
        "neuron:block2:5@cls",
        "logit:1 - 0.5*logit:2 + 2*channel:block2:1",
        "2*logit:1 * logit:2",
        "dictionary:bank@2#3",
    ],
)
def test_features_are_spoken_as_the_contract_reads_them(studio, form):
    feature = parse_feature(form)
    spoken = "async given => (await import('/static/js/forms.js')).spoken(given)"
    assert parse_feature(studio.evaluate(spoken, feature.model_dump(mode="json"))) == feature


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
    studio.locator("#results .open").nth(2).click()
    studio.locator("#stage[data-state=done]").wait_for()
    assert studio.locator("#feature").input_value() == "logit:heart"


@pytest.fixture
def long(embedded):
    """A batch that keeps the worker busy."""
    with Client(embedded.url) as client:
        batch = client.batches.create(
            model="reference", features={"layer": "block2"}, images=sample_paths()[:2], recipe={"steps": 300}
        )
        wait_until(lambda: batch.refresh().counts.running > 0, what="the batch runs")
        yield batch
        if not batch.refresh().state.terminal:
            batch.cancel()


def test_failures_are_told_and_retried(studio, embedded, long):
    with Client(embedded.url) as client:
        batch = client.batches.create(
            model="reference",
            features=[f"channel:block1:{unit}" for unit in range(3)],
            images=sample_paths()[3:4],
            recipe=QUICK | {"steps": 6},
            deadline_s=1,
        )
    studio.goto(f"{embedded.url}/#/batches/{batch.id}")
    studio.locator("#batch-state[data-kind=failed]").wait_for(timeout=END_MS)
    studio.locator("#failures ul li").nth(2).wait_for()
    assert studio.locator("#failures > li").count() == 1
    assert "deadline" in studio.locator("#failures > li").inner_text()
    long.cancel()
    studio.get_by_role("button", name="Retry the failed").click()
    studio.locator("#batch-state[data-kind=succeeded]").wait_for(timeout=END_MS)
    studio.locator("#failures-part").wait_for(state="hidden")


@pytest.mark.parametrize("pattern", ["**/static/samples/*.png", "**/v1/images"])
def test_canceled_while_the_picture_is_on_its_way_no_job_is_submitted(studio, pattern):
    settings(studio, steps=4)
    choose(studio, "#unit", "dots")
    accentuate(studio)
    asked = []
    studio.on("request", lambda request: asked.append(f"{request.method} {request.url.rpartition('/v1/')[2]}"))
    held = hold(studio, pattern)
    studio.locator("#samples button").nth(3).click()
    studio.locator("#run").click()
    studio.locator("#cancel").click()
    let_go(studio, held)
    assert not [one for one in asked if "jobs" in one]
    assert studio.locator("#run").is_enabled()
    assert studio.locator("#cancel").is_hidden()
    studio.locator("#run").click()
    studio.locator("#stage[data-state=done]").wait_for(timeout=END_MS)
    assert "POST jobs" in asked


def test_canceled_while_the_job_is_on_its_way_it_is_canceled_once_it_is_there(studio):
    settings(studio, steps=2000, size=512)
    choose(studio, "#unit", "dots")
    held = hold(studio, "**/v1/jobs")
    studio.locator("#samples button").nth(4).click()
    studio.locator("#run").click()
    wait_until(lambda: studio.wait_for_timeout(50) or held)
    studio.locator("#cancel").click()
    with studio.expect_response(lambda answer: answer.url.endswith("/cancel")) as canceled:
        held[0].continue_()
    assert canceled.value.ok
    assert studio.locator("#state").inner_text() == ""


def test_a_running_batch_is_canceled(studio, embedded, long):
    studio.goto(f"{embedded.url}/#/batches/{long.id}")
    studio.locator("#batch-cancel").click()
    studio.locator("#batch-state[data-kind=canceled]").wait_for(timeout=END_MS)
    assert studio.locator("#batch-cancel").is_hidden()


def test_nothing_is_cut_off_on_a_phone(studio, embedded):
    studio.set_viewport_size(PHONE)
    settings(studio, steps=4, crops=2, size=64)
    accentuate(studio)
    for place in ("", "#/batches"):
        studio.goto(f"{embedded.url}/{place}")
        studio.locator("main > section:visible").wait_for()
        assert studio.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
