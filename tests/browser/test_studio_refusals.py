"""What the studio says when the service says no; a refused request is an error in the console, so a page of its own."""

from collections.abc import Iterator

import pytest
from tests.browser.test_studio import END_MS, choose, figures, open_studio, settings
from tests.distributed import distributed_service

from accentor.engine.reference import sample_paths
from accentor.settings import Settings
from accentor.state import AccessStore, Scope, connect, make_key
from accentor_client import Client

pytestmark = pytest.mark.service


@pytest.fixture
def refused(browser) -> Iterator:
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    page = context.new_page()
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if "Security Policy" in message.text else None)
    yield page
    context.close()
    assert not faults, faults


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A distributed service that asks for keys: its address and a key."""
    key, token = make_key("studio", scopes=frozenset({Scope.READ, Scope.SUBMIT}))

    def add_key(redis_url: str) -> None:
        with connect(Settings(redis_url=redis_url)) as client:
            AccessStore(client).add(key)

    folder = tmp_path_factory.mktemp("guarded")
    with distributed_service(folder, add_key, ACCENTOR_ALLOW_ANONYMOUS="false") as environment:
        yield environment["URL"], token


def test_a_key_is_asked_for_and_pictures_come_from_the_store(refused, guarded):
    url, token = guarded
    refused.goto(url)
    refused.locator("#key-dialog[open]").wait_for()
    assert "asks for an API key" in refused.locator("#key-reason").inner_text()
    refused.locator("#key").press("Escape")
    refused.locator("#run").click()
    refused.locator(".notice").wait_for()
    assert refused.locator("#key-dialog[open]").count() == 0
    refused.locator("#key-button").click()
    refused.locator("#key").fill("acc_wrong")
    refused.get_by_role("button", name="Use it").click()
    refused.get_by_text("unknown or was revoked").first.wait_for()
    refused.locator("#key-dialog[open]").wait_for()
    refused.locator("#key").fill(token)
    refused.get_by_role("button", name="Use it").click()
    refused.locator("#health[data-kind=good]").wait_for()
    choose(refused, "#unit", "dots")
    settings(refused, steps=40)
    refused.locator("#samples button").first.click()
    refused.locator("#run").click()
    refused.locator("#stage[data-state=live]").wait_for()
    refused.locator("#stage[data-state=done]").wait_for(timeout=END_MS)
    before, after = figures(refused)
    assert after > before
    assert not refused.locator("#result-image").get_attribute("src").startswith((url, "/"))
    assert refused.locator("#result-image").evaluate("async node => (await node.decode(), node.naturalWidth)") > 0
    refused.locator("#keep").click()
    refused.locator("#shelf img[src^=http]").wait_for()
    assert refused.evaluate("[localStorage.length, sessionStorage.length]") == [1, 1]
    assert token not in refused.evaluate("JSON.stringify(localStorage)")

    refused.get_by_role("link", name="Batches").click()
    refused.locator("#batch-rows a").first.click()
    with refused.expect_download() as download:
        refused.get_by_role("link", name="pictures (zip)").click()
    assert download.value.suggested_filename.endswith(".zip")


def test_what_is_wrong_is_told_with_what_to_do(refused, embedded, tmp_path):
    open_studio(refused, embedded.url)
    refused.locator("#run").click()
    assert "choose a picture first" in refused.locator("#notices").inner_text().lower()
    refused.locator("#samples button").first.click()
    refused.locator("#feature").fill("channel:blok2:3")
    refused.locator("#run").click()
    refused.get_by_text("block2").first.wait_for()
    notice = refused.locator("#notices").inner_text()
    assert "no layer 'blok2'" in notice
    assert "Pick a layer from the list." in notice
    assert refused.locator("#run").is_enabled()

    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    refused.locator("#file").set_input_files(broken)
    refused.locator("#feature").fill("logit:dots")
    refused.locator("#run").click()
    refused.get_by_text("Choose a PNG, JPEG or WebP picture.").wait_for()

    refused.locator("#file").set_input_files(sample_paths()[0])
    refused.locator("#feature").fill("<img src=x onerror=alert(1)>")
    refused.locator("#run").click()
    refused.get_by_text("onerror").wait_for()
    assert refused.locator("#notices img").count() == 0


def test_batches_that_are_unknown_or_have_no_pictures_are_told(refused, embedded, tmp_path):
    (tmp_path / "scene.png").write_bytes(sample_paths()[0].read_bytes())
    with Client(embedded.url) as client:
        client.datasets.create("one", folder=tmp_path)
        scan = client.datasets.scan("one", model="reference", layer="block1")
        picture = client.batches.create(
            model="reference", features=["logit:ring"], images=sample_paths()[:1], recipe={"steps": 2}
        ).wait(timeout=60)
    refused.goto(f"{embedded.url}/#/batches/{scan.batch}")
    refused.get_by_text("is a scan and has no pictures").wait_for()
    assert refused.locator(".notice").count() == 0
    assert refused.locator("#batch-downloads").is_hidden()
    refused.goto(f"{embedded.url}/#/batches/{picture.id}")
    refused.locator("#results li").wait_for()
    assert refused.locator("#batch-kind").inner_text() == ""
    refused.goto(f"{embedded.url}/#/batches/nosuch")
    refused.get_by_text("There is no batch nosuch.").wait_for()
    assert refused.locator("#batch-body").is_hidden()
