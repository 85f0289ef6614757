"""The studio's pages of atlases and of what they are made from, used in Chromium on the whole service."""

import shutil

import httpx
import pytest
from tests.browser.test_studio import END_MS, PHONE, choose, open_studio

from accentor.engine.reference import sample_paths
from accentor.spec.atlases import AtlasSpec
from accentor_client import Client

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def scenes(embedded, tmp_path_factory):
    """The name of a dataset of a few scenes."""
    folder = tmp_path_factory.mktemp("scenes")
    for path in sample_paths()[:6]:
        shutil.copy(path, folder)
    with Client(embedded.url) as client:
        return client.datasets.create("scenes", folder=folder).name


@pytest.fixture
def folder(tmp_path):
    """Pictures in two subfolders, and one that is none."""
    for place, path in enumerate(sample_paths()[:5]):
        target = tmp_path / "scenes" / ("even", "odd")[place % 2] / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    shutil.copy(sample_paths()[0], tmp_path / "scenes" / "z-again.png")
    return tmp_path / "scenes"


def start_atlas(page, layer, **numbers):
    choose(page, "#atlas-features", layer)
    for name, value in numbers.items():
        page.locator(f"#atlas-{name}").fill(str(value))
    page.locator("#atlas-recipe").select_option("fast")
    page.locator("#atlas-start").click()
    page.locator("#atlas-body").wait_for()


def test_a_folder_becomes_a_dataset(page, embedded, folder):
    page.goto(f"{embedded.url}/#/library")
    page.locator("#banks-empty").wait_for()
    page.locator("#set-name").fill("from-here")
    page.locator("#set-files").set_input_files(folder)
    page.locator("#set-make").click()
    page.get_by_text("from-here: 5 images, 1 twice.").wait_for()
    cells = page.locator("#sets-rows tr:has-text('from-here') td").all_inner_texts()
    assert cells[:2] == ["from-here", "5"]
    with Client(embedded.url) as client:
        card = client.datasets.card("from-here")
    assert card.classes == {"even": 3, "odd": 2}


def test_an_atlas_is_started_followed_and_opened(page, embedded, scenes):
    page.goto(f"{embedded.url}/#/library")
    page.get_by_role("link", name=f"New atlas of {scenes}").click()
    page.get_by_text("at most").wait_for()
    assert page.locator("#atlas-dataset").input_value() == scenes
    page.locator("#atlas-name").fill("<b>Three</b> channels")
    start_atlas(page, "block1", top=1, limit=3, images=0)
    assert page.locator("#atlas-title").inner_text() == "<b>Three</b> channels"
    assert page.locator("#atlas-steps li").count() == 5
    page.locator("#atlas-state[data-kind=succeeded]").wait_for(timeout=2 * END_MS)
    page.locator("#atlas-sheet").scroll_into_view_if_needed()
    assert page.locator("#atlas-sheet").evaluate("node => node.naturalWidth") > 0
    assert page.locator("#atlas-figures").inner_text().split("\n")[7] == "3"

    with page.expect_popup() as site:
        page.get_by_role("link", name="Open the atlas", exact=True).click()
    site.value.get_by_text("Three").first.wait_for()
    site.value.close()

    page.get_by_role("link", name="Atlases", exact=True).click()
    page.locator("#atlas-rows").get_by_role("link", name="<b>Three</b> channels", exact=True).wait_for()
    page.get_by_role("link", name="Batches").click()
    page.locator("#batch-rows tr").nth(4).wait_for()
    notes = page.locator("#batch-rows small").all_inner_texts()[:5]
    assert [note.strip() for note in notes] == [
        f"atlas: {step}" for step in ("publish", "evaluate", "accentuate", "select", "scan")
    ]
    page.get_by_role("link", name="Studio").click()
    choose(page, "#layer", "block1")
    page.locator("#unit").click()
    page.locator("#unit-options .tile").nth(2).wait_for()
    assert page.locator("#unit-options .tile").count() == 3
    page.wait_for_function("() => document.querySelector('#unit-options .tile').style.backgroundImage")
    page.locator("#unit").fill("2")
    page.locator("#unit").press("Enter")
    assert page.locator("#seen a").get_attribute("href").endswith("/index.html#/feature/2")
    choose(page, "#unit", "5")
    assert page.locator("#seen").is_hidden()


def test_logits_have_the_pictures_of_an_atlas_of_the_last_layer(page, embedded, scenes):
    with Client(embedded.url) as client:
        few = {"limit": 2, "top_k": 1, "images": 0, "errors": 0, "recipe": "fast"}
        last = client.models.layers("reference")[-1].name
        client.atlases.create(model="reference", layer=last, dataset=scenes, **few).wait(timeout=END_MS / 500)
    open_studio(page, embedded.url)
    choose(page, "#layer", "logits")
    page.locator("#unit").click()
    page.locator("#unit-options .tile").nth(1).wait_for()
    assert page.locator("#unit-options .tile").count() == 2
    page.locator("#unit").fill("1")
    page.locator("#unit").press("Enter")
    assert page.locator("#seen a").get_attribute("href").endswith("/index.html#/feature/1")


def test_an_atlas_is_canceled_and_deleted(page, embedded, scenes):
    page.goto(f"{embedded.url}/#/atlases/new?dataset={scenes}")
    page.get_by_text("at most").wait_for()
    start_atlas(page, "block3", top=6)
    page.locator("#atlas-cancel").click()
    page.locator("#atlas-state[data-kind=canceled]").wait_for(timeout=END_MS)
    address = page.url.rpartition("/")[2]
    page.once("dialog", lambda dialog: dialog.accept())
    page.locator("#atlas-delete").click()
    page.locator("#atlases-title").wait_for()
    assert httpx.get(f"{embedded.url}/v1/atlases/{address}").status_code == 404


def test_an_atlas_without_features_is_not_sent(page, embedded, scenes):
    page.goto(f"{embedded.url}/#/atlases/new?dataset={scenes}")
    page.get_by_text("at most").wait_for()
    page.locator("#atlas-limit").fill("0")
    page.locator("#atlas-start").click()
    assert page.locator("#start").is_visible()
    assert page.evaluate("document.activeElement.id") == "atlas-limit"
    page.locator("#atlas-limit").fill("7")
    assert "7 features, each in up to 10 images" in page.locator("#atlas-estimate").inner_text()


@pytest.mark.parametrize("given", [{}, {"limit": 7}, {"limit": 3, "top_k": 2, "images": 5, "errors": 9}, {"errors": 0}])
def test_the_form_says_and_sends_how_many_pictures_there_may_be(page, embedded, scenes, given):
    page.goto(f"{embedded.url}/#/atlases/new?dataset={scenes}")
    page.get_by_text("at most").wait_for()
    choose(page, "#atlas-features", "block1")
    for name, value in given.items():
        page.locator(f"#atlas-{name.removesuffix('_k')}").fill(str(value))
    with Client(embedded.url) as client:
        channels = next(one.shape[0] for one in client.models.layers("reference") if one.name == "block1")
    spec = AtlasSpec(model="reference", layer="block1", dataset=scenes, **given)
    said = page.locator("#atlas-estimate").inner_text()
    assert said.endswith(f": at most {spec.most_pictures(channels):,} pictures.")
    page.route("**/v1/atlases", lambda _: None)
    with page.expect_request("**/v1/atlases") as asked:
        page.locator("#atlas-start").click()
    numbers = spec.model_dump(include={"top_k", "images", "errors", "limit"}, exclude_none=True)
    assert numbers.items() <= asked.value.post_data_json.items()


def test_pages_with_tables_fit_a_phone(page, embedded, scenes):
    with Client(embedded.url) as client:
        client.dictionaries.create("a-long-name", model="reference", layer="block3", channels=True)
        client.atlases.create(model="reference", layer="block1", dataset=scenes, limit=1).cancel()
    page.set_viewport_size(PHONE)
    open_studio(page, embedded.url)
    for place in ("#/atlases", "#/atlases/new", "#/library", "#/batches"):
        page.goto(f"{embedded.url}/{place}")
        page.locator("main > section:visible").wait_for()
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        hidden = "[...document.querySelectorAll('.scroll')].map(node => node.scrollWidth - node.clientWidth)"
        assert not any(page.evaluate(hidden)), place


def test_a_gap_in_one_long_word_fits_a_phone(page, embedded, tmp_path):
    label = "unheard" * 15
    (tmp_path / label).mkdir()
    shutil.copy(sample_paths()[0], tmp_path / label)
    with Client(embedded.url) as client:
        dataset = client.datasets.create("long", folder=tmp_path).name
        atlas = client.atlases.create(
            model="reference",
            layer="block1",
            dataset=dataset,
            limit=1,
            top_k=1,
            images=0,
            errors=0,
            recipe={"steps": 1},
        ).wait(timeout=60)
    page.set_viewport_size(PHONE)
    page.goto(f"{embedded.url}/#/atlases/{atlas.id}")
    page.locator(f"#atlas-gaps li:has-text('{label}')").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
