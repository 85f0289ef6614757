"""The published atlas opened from disk: what one sees, drags, types and finds."""

import threading
import time
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from tests.atlas.synthetic import HOSTILE, PICTURES, SIDE, atlas, color_at, features

from accentor.atlas import Frame, publish


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    root = tmp_path_factory.mktemp("atlas")
    return publish(atlas(root / "pictures"), root / "site").as_uri()


@pytest.fixture
def served(site):
    """The same site from a web server, below a folder."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    root = Path(unquote(urlparse(site).path)).parents[1]
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=root)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/site/"
        server.shutdown()
        thread.join()


@pytest.fixture
def feature(page, site):
    page.goto(f"{site}#/feature/4")
    page.wait_for_selector(".viewer[data-ready]")
    return page


def until(page, condition, seconds=15):
    """Wait until an expression is true; the page's policy forbids Playwright's own way, which evaluates in the page."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(50)


def pixel(page, x, y):
    """Return a pixel of the first picture as it is on the screen."""
    from io import BytesIO

    from PIL import Image

    shot = Image.open(BytesIO(page.locator(".viewer canvas").first.screenshot())).convert("RGB")
    return shot.getpixel((int(shot.width * x / SIDE), int(shot.height * y / SIDE)))


def slide(page, selector, value):
    page.locator(selector).first.fill(str(value))


def close(one, other, by=4):
    return all(abs(a - b) <= by for a, b in zip(one, other, strict=True))


def test_the_map_shows_thumbnails_and_zooming_shows_fewer_and_larger_parts(page, site):
    page.goto(site)
    until(page, "document.querySelector('.map-box')?.dataset.tiles > 0")
    assert page.title() == "An atlas of drawn discs"
    until(page, "document.querySelectorAll('.rows li').length === 24")
    before = float(page.locator(".map-box").get_attribute("data-scale"))
    page.get_by_role("button", name="Zoom in").click()
    until(page, f"Number(document.querySelector('.map-box').dataset.scale) > {before}")
    page.locator("canvas.map").hover()
    page.mouse.wheel(0, -600)
    until(page, "Number(document.querySelector('.map-box').dataset.scale) > 4")


def test_the_buttons_cover_no_part_of_the_map(page, site):
    page.goto(site)
    page.wait_for_selector("canvas.map")
    top = page.locator("canvas.map").bounding_box()["y"]
    buttons = [one.bounding_box() for one in page.locator(".zoom button").all()]
    assert len(buttons) == 2
    assert all(box["y"] + box["height"] <= top for box in buttons)


def test_a_measure_that_is_the_same_everywhere_is_one_bar_in_the_middle(page, tmp_path):
    alike = [one.model_copy(update={"density": 1.0, "std": 0.0}) for one in features(4)]
    site = publish(replace(atlas(tmp_path / "pictures", 4), features=alike), tmp_path / "site").as_uri()
    page.goto(site)
    chart = page.locator("svg[aria-label^='Distribution of density over 4 features']")
    chart.wait_for()
    assert chart.locator("text").all_text_contents() == ["median 1", "1"]
    bar = chart.locator("rect").bounding_box()
    whole = chart.bounding_box()
    assert bar["width"] > 10
    assert bar["x"] + bar["width"] / 2 == pytest.approx(whole["x"] + whole["width"] / 2, abs=2)
    page.goto(f"{site}#/feature/1")
    page.wait_for_selector(".facts-row")
    assert page.locator(".facts-row dd").first.inner_text() == "–"


def place_on_map(page, feature):
    """Return where a feature lies on the screen, on a map that was not moved, once the map is drawn."""
    until(page, "document.querySelector('.map-box')?.dataset.tiles > 0")
    page.locator("canvas.map").scroll_into_view_if_needed()
    script = (
        "async (feature) => { const { slots, x, y } = await Atlas.store.map(); const slot = slots.get(feature);"
        " const box = document.querySelector('canvas.map').getBoundingClientRect(); const margin = 40;"
        " return [box.x + margin + x[slot] * (box.width - 2 * margin),"
        " box.y + margin + (1 - y[slot]) * (box.height - 2 * margin)]; }"
    )
    return page.evaluate(script, feature)


@pytest.mark.parametrize("index", [3, 17])
def test_a_click_on_the_map_opens_the_feature_under_it(page, site, index):
    page.goto(site)
    page.mouse.click(*place_on_map(page, index))
    page.wait_for_selector(".viewer")
    assert page.url.endswith(f"#/feature/{index}")


def test_a_drag_moves_the_map_and_opens_nothing(page, site):
    page.goto(site)
    page.locator("canvas.map").scroll_into_view_if_needed()
    x, y = place_on_map(page, 12)
    page.mouse.move(x, y)
    page.mouse.wheel(0, -400)
    until(page, "Number(document.querySelector('.map-box').dataset.scale) > 2")
    page.mouse.down()
    page.mouse.move(x - 120, y - 60, steps=6)
    page.mouse.up()
    page.wait_for_timeout(200)
    assert page.locator("canvas.map").count() == 1
    page.mouse.click(x - 120, y - 60)
    page.wait_for_selector(".viewer")
    assert page.url.endswith("#/feature/12")


def test_enter_on_the_map_opens_the_feature_nearest_to_the_middle(page, site):
    page.goto(site)
    until(page, "document.querySelector('.map-box')?.dataset.tiles > 0")
    page.locator("canvas.map").focus()
    page.keyboard.press("+")
    page.keyboard.press("Enter")
    page.wait_for_selector(".viewer")
    assert "#/feature/" in page.url


@pytest.mark.parametrize(("query", "count"), [("stripes", 7), ("#7", 1), ("channel:block4:2", 5), ("nothing", 0)])
def test_search_by_label_index_and_name(page, site, query, count):
    page.goto(site)
    page.wait_for_selector(".rows li")
    page.get_by_role("searchbox").fill(query)
    until(page, f"document.querySelector('.count').textContent.startsWith('{count} of 24')")
    until(page, f"document.querySelectorAll('.rows li').length === {count}")


@pytest.mark.parametrize(("order", "expected"), [("down", [2, 12, 20, 21, 22, 23]), ("up", [2, 23, 22, 21, 20, 12])])
def test_what_is_found_by_a_number_is_sorted_but_for_that_feature_itself(page, site, order, expected):
    page.goto(f"{site}#/?search=2&order={order}")
    until(page, f"document.querySelectorAll('.rows li').length === {len(expected)}")
    rows = page.locator(".rows a").evaluate_all("rows => rows.map((one) => Number(one.hash.split('/').pop()))")
    assert rows == expected


def test_a_search_that_took_longer_does_not_follow_the_next(page, served):
    waiting = []
    page.route("**/data/names/0.js", lambda route: waiting.append(route))
    page.goto(served, wait_until="commit")
    until(page, "document.querySelector('.count')?.textContent === '24 features'")
    page.get_by_role("searchbox").fill("stripes")
    until(page, "location.hash.includes('stripes')")
    page.get_by_role("searchbox").fill("")
    until(page, "location.hash === '#/'")
    waiting[0].continue_()
    until(page, "document.querySelectorAll('.rows li').length === 24")
    page.wait_for_timeout(300)
    assert page.locator(".count").inner_text() == "24 features"


def test_a_list_goes_on_after_a_file_that_did_not_come(browser, served):
    context = browser.new_context()
    page = context.new_page()
    page.route("**/data/names/0.js", lambda route: route.abort())
    with page.expect_event("pageerror"):
        page.goto(served)
    assert page.locator(".rows li").count() == 0
    page.unroute("**/data/names/0.js")
    page.get_by_role("searchbox").fill("stripes")
    until(page, "document.querySelectorAll('.rows li').length === 7")
    context.close()


def test_sorting_puts_the_most_coherent_first(page, site):
    page.goto(site)
    page.wait_for_selector(".rows li")
    page.get_by_label("Sort").select_option("coherence")
    until(page, "document.querySelector('.rows a')?.hash === '#/feature/8'")


def test_the_order_turns_round_and_what_has_no_label_stays_last(page, site):
    page.goto(f"{site}#/?sort=coherence")
    until(page, "document.querySelector('.rows a')?.hash === '#/feature/8'")
    page.get_by_role("button", name="Reverse the order").click()
    until(page, "document.querySelector('.rows a')?.hash === '#/feature/0'")
    for order, first in (("down", "<img"), ("up", "stripes")):
        page.goto("about:blank")
        page.goto(f"{site}#/?sort=label&order={order}")
        until(page, "document.querySelectorAll('.rows li').length === 24")
        assert page.locator(".rows strong").first.inner_text().startswith(first)
        assert page.locator(".rows strong").last.inner_text().startswith("channel:")


def test_an_address_keeps_what_was_asked_of_the_overview(page, site):
    page.goto(site)
    page.wait_for_selector(".rows li")
    page.get_by_role("searchbox").fill("stripes")
    page.get_by_label("Colour").select_option("label")
    page.get_by_label("Sort").select_option("density")
    page.get_by_label("Show").select_option("alive")
    until(page, "location.hash.includes('search=stripes') && location.hash.includes('colour=label')")
    until(page, "document.querySelector('.legend').innerText.includes('stripes (7)')")
    kept = page.url
    page.goto("about:blank")
    page.goto(kept)
    until(page, "document.querySelector('.rows a')?.hash === '#/feature/9'")
    assert page.get_by_role("searchbox").input_value() == "stripes"
    assert page.locator(".count").inner_text() == "6 of 24 features"
    assert "stripes (7)" in page.locator(".legend").inner_text()


def test_an_address_runs_no_file_outside_of_the_site(page, site):
    Path(unquote(urlparse(site).path)).parents[1].joinpath("evil.js").write_text("document.title = 'owned';")
    page.goto(f"{site}#/?colour=../../../evil&sort=../../../evil")
    until(page, "document.querySelectorAll('.rows li').length === 24")
    until(page, "document.querySelector('.legend').innerText.includes('coherence')")
    assert page.title() == "An atlas of drawn discs"
    assert page.get_by_label("Colour").input_value() == "coherence"


@pytest.mark.parametrize("asked", ["sort=foo", "filter=foo", "order=foo", "colour=flags", "sort=flags"])
def test_what_an_address_asks_for_in_vain_is_as_usual(page, site, asked):
    page.goto(f"{site}#/?{asked}")
    until(page, "document.querySelectorAll('.rows li').length === 24")
    assert page.locator(".rows a").first.get_attribute("href") == "#/feature/0"
    assert page.locator(".count").inner_text() == "24 features"
    until(page, "location.hash === '#/'")


def test_the_way_back_leads_to_where_one_was(page, site):
    page.goto(site)
    page.locator("canvas.map").focus()
    page.keyboard.press("+")
    until(page, "Number(document.querySelector('.map-box').dataset.scale) > 1.4")
    page.get_by_role("link", name="channel:block4:20").click()
    page.wait_for_selector(".viewer")
    until(page, "document.activeElement.id === 'main' && scrollY === 0")
    page.go_back()
    until(page, "document.querySelector('.map-box')?.dataset.scale > 1.4 && scrollY > 300")


def test_the_first_stop_of_the_tab_key_leads_past_the_head(page, site):
    page.goto(f"{site}#/feature/4")
    page.wait_for_selector(".viewer")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    until(page, "document.activeElement.id === 'main'")
    assert page.url.endswith("#/feature/4")


@pytest.mark.parametrize("route", ["#/", "#/feature/4", "#/images", "#/image/2", "#/errors"])
def test_every_picture_and_control_has_a_name(page, site, route):
    page.goto(f"{site}{route}")
    page.wait_for_selector("main h1")
    nameless = (
        "[...document.querySelectorAll('main [role=img], main canvas, main svg, main input, main select, main button')]"
        ".filter((one) => !(one.getAttribute('aria-label') || one.textContent || one.labels?.length).length"
        " && !one.labels?.length).map((one) => one.outerHTML)"
    )
    page.wait_for_selector("main .thumb, main .viewer")
    assert page.evaluate(nameless) == []
    assert page.locator("main .thumb:not([aria-hidden]):not([aria-label])").count() == 0


def test_the_pages_say_at_which_strength_gain_is(page, tmp_path):
    (one,) = features(1)
    frames = tuple(Frame(strength=strength, value=2 + 4 * strength) for strength in (-1, 0, 0.5))
    shown = tuple(each.model_copy(update={"frames": frames}) for each in one.shown if each.strip)
    made = replace(atlas(tmp_path / "pictures", 1), features=[one.model_copy(update={"shown": shown})])
    site = publish(made, tmp_path / "site").as_uri()
    page.goto(site)
    page.locator("figure", has_text="rise of the value at strength 0.5, in standard deviations").wait_for()
    page.locator("figure", has_text="how alike its pictures at strength 0.5 are inside the network").wait_for()
    page.locator(".row-values [title^='rise of the value at strength 0.5,']").wait_for()
    page.goto(f"{site}#/feature/0")
    page.locator(".facts-row dt", has_text="gain at strength 0.5").wait_for()
    assert page.locator("svg.chart text", has_text="accentuated 4").text_content() == "accentuated 4"


def test_figures_say_their_numbers(feature):
    said = [one.get_attribute("aria-label") for one in feature.locator("svg.chart").all()]
    assert "first image's seed 2, accentuated 5" in said[0]
    assert "2 to 8 over a distance of 3" in said[1]
    assert "block1 0.2 0.15 0.05; " in said[2]
    assert feature.locator("svg.chart text", has_text="accentuated 5").text_content() == "accentuated 5"


def test_the_slider_goes_from_the_suppressed_over_the_seed_to_the_accentuated(feature):
    for strength in (-1, 0, 0.5, 1, 2):
        slide(feature, ".scrub input", strength)
        assert close(pixel(feature, 4, 4), color_at(4, strength)), strength
    slide(feature, ".scrub input", 1.5)
    assert close(pixel(feature, 4, 4), color_at(4, 1.5))
    assert feature.locator(".reading").first.inner_text().split("\n")[0].startswith("strength +1.5")


def test_the_mouse_drags_the_slider(feature):
    slider = feature.locator(".scrub input").first
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    thumb = box["x"] + box["width"] * (float(slider.input_value()) + 1) / 3
    feature.mouse.move(thumb, middle)
    feature.mouse.down()
    feature.mouse.move(box["x"] + box["width"] - 1, middle, steps=6)
    assert close(pixel(feature, 4, 4), color_at(4, 2))
    feature.mouse.move(box["x"] + 1, middle, steps=6)
    feature.mouse.up()
    assert close(pixel(feature, 4, 4), color_at(4, -1))
    assert "2 → −1" in feature.locator(".reading").first.inner_text()


def test_an_image_is_off_where_the_feature_does_not_fire(feature):
    section = feature.locator("section", has_text="Over its range")
    said = [one.split(" · ")[-1] for one in section.locator(".viewer-head small").all_inner_texts()]
    assert said == ["percentile 0, off", "percentile 50"]


def test_values_and_percentile_follow_the_slider(feature):
    slide(feature, ".scrub input", 1)
    assert "2 → 5" in feature.locator(".reading").first.inner_text()
    assert "percentile 60 → 80 · distance 1.5" in feature.locator(".reading").first.inner_text()
    slide(feature, ".scrub input", -1)
    assert "2 → −1" in feature.locator(".reading").first.inner_text()


def test_a_web_server_serves_it_as_it_is(page, served):
    page.goto(served)
    until(page, "document.querySelector('.map-box')?.dataset.tiles > 0")
    page.goto(f"{served}#/feature/4")
    page.wait_for_selector(".viewer[data-ready]")
    slide(page, ".scrub input", -1)
    assert close(pixel(page, 4, 4), color_at(4, -1))


def test_the_keyboard_moves_the_slider(feature):
    feature.locator(".scrub input").first.focus()
    feature.keyboard.press("Home")
    assert close(pixel(feature, 4, 4), color_at(4, -1))


def test_the_opacity_map_covers_what_lies_outside_of_it(feature):
    slide(feature, ".scrub input", 1)
    slide(feature, "#opacity", 1)
    inside, outside = pixel(feature, 26, 26), pixel(feature, 4, 4)
    assert close(inside, color_at(4, 1))
    assert close(outside, tuple(round(0.35 * one) for one in color_at(4, 0)))


def test_where_and_difference(feature):
    slide(feature, ".scrub input", 1)
    feature.get_by_role("button", name="where").click()
    assert pixel(feature, 48, 48) == (255, 255, 255)
    assert pixel(feature, 4, 4) == (0, 0, 0)
    assert feature.evaluate("getComputedStyle(document.querySelector('.peak')).opacity") == "1"
    feature.get_by_role("button", name="difference").click()
    assert close(pixel(feature, 4, 4), (200, 0, 0))


def test_a_missing_picture_says_why_and_marks_are_named(feature):
    assert "out of memory" in feature.locator(".missing-picture").inner_text()
    assert feature.locator(".viewer .badge", has_text="dead on the seed").count() == 1
    feature.get_by_text("dead on the seed: in 1 of 5 images").click()
    assert feature.get_by_text("The feature does not fire on the seed").is_visible()


def test_hostile_labels_and_titles_are_shown_as_text(page, tmp_path):
    site = publish(atlas(tmp_path / "pictures", title=HOSTILE), tmp_path / "site").as_uri()
    for route in ("#/", "#/feature/3"):
        page.goto(f"{site}{route}")
        page.wait_for_selector("main h1")
        assert page.locator("main h1").inner_text() == HOSTILE
        assert page.locator("main img").count() == 0
        assert page.title().startswith(HOSTILE)


def test_an_image_leads_to_its_features_and_errors_show_both_classes(page, site):
    page.goto(f"{site}#/images")
    page.wait_for_selector(".grid li")
    assert page.locator(".grid li").count() == PICTURES
    page.locator(".grid a").nth(4).click()
    page.wait_for_selector(".chips, .viewers")
    assert page.locator("main h1").inner_text() == "disc-04.png"
    assert "label disc · taken for ring" in page.locator(".facts").inner_text()
    page.keyboard.press("]")
    until(page, "document.querySelector('main h1').innerText === 'disc-05.png'")
    page.get_by_role("link", name="previous").click()
    until(page, "document.querySelector('main h1').innerText === 'disc-04.png'")
    page.get_by_role("link", name="Errors").click()
    page.wait_for_selector(".error .viewer[data-ready]")
    assert page.locator(".error .viewer").count() == 2
    assert (
        page.locator("main .facts")
        .first.inner_text()
        .startswith("1 of 130 misclassified images, the surest first: what speaks for the predicted class")
    )


@pytest.mark.parametrize(
    ("shown", "misclassified", "said"),
    [
        (1, None, "1 misclassified image: what speaks"),
        (0, 1_234, "1,234 misclassified images; this atlas was made to show none."),
        (0, None, "No image was misclassified, or the images have no labels."),
    ],
)
def test_errors_say_how_many_there_are(page, tmp_path, shown, misclassified, said):
    made = atlas(tmp_path / "pictures", 3)
    made = replace(made, errors=made.errors[:shown], misclassified=misclassified)
    page.goto(f"{publish(made, tmp_path / 'site').as_uri()}#/errors")
    page.locator("main .facts").first.wait_for()
    assert page.locator("main .facts").first.inner_text().startswith(said)
    assert page.get_by_role("link", name="Errors").count() == int(bool(shown or misclassified))


def test_large_counts_are_written_out(page, tmp_path):
    site = publish(atlas(tmp_path / "pictures", 3), tmp_path / "site")
    head = site.parent / "data" / "head.js"
    head.write_text(head.read_text().replace('"pictures":26,', '"pictures":381234,'))
    page.goto(site.as_uri())
    page.locator(".intro .facts").wait_for()
    assert page.locator(".intro .facts").inner_text().endswith("12 images of discs · 381,234 pictures")


def test_an_image_shows_pictures_of_its_own_and_those_of_the_features(page, site):
    page.goto(f"{site}#/image/2")
    page.wait_for_selector(".viewer[data-ready]")
    assert page.locator(".viewer").count() == 2
    assert page.locator(".viewer-head a").all_inner_texts() == ["channel:block4:2", "dots"]


def test_an_image_whose_label_is_no_class_is_not_taken_for_another(page, tmp_path):
    made = atlas(tmp_path / "pictures", 3)
    images = [one.model_copy(update={"is_class": one.index != 4, "predicted": "ring"}) for one in made.images[3:6]]
    site = publish(replace(made, images=images, errors=()), tmp_path / "site").as_uri()
    page.goto(f"{site}#/images")
    page.wait_for_selector(".grid li")
    assert page.locator(".grid small").all_inner_texts() == ["disc, taken for ring", "disc", "disc, taken for ring"]
    assert page.locator(".grid .wrong").count() == 2
    for index, said in ((3, "taken for ring"), (4, "predicted ring")):
        page.goto(f"{site}#/image/{index}")
        page.get_by_text(f"label disc · {said}").wait_for()


def test_the_top_features_of_an_image_keep_their_order_with_a_picture_or_without(page, site):
    page.goto(f"{site}#/image/2")
    page.wait_for_selector(".viewer[data-ready]")
    first, more = (page.locator("main section").nth(place) for place in (0, 1))
    listed = "nodes => nodes.map((node) => Number(node.hash.split('/').pop()))"
    assert first.locator("a[href^='#/feature/']").evaluate_all(listed) == [2, 3, 4]
    assert more.locator("h2").inner_text() == "More of its top features"
    assert more.locator("a[href^='#/feature/']").evaluate_all(listed) == [5]


def test_a_page_that_is_not_there_says_so(page, site):
    page.goto(f"{site}#/nowhere")
    page.wait_for_selector("main h1")
    assert "There is no page /nowhere" in page.locator("main").inner_text()


@pytest.mark.parametrize("route", ["#/", "#/feature/4", "#/images", "#/image/4", "#/errors"])
def test_nothing_is_wider_than_a_phone(page, site, route):
    page.set_viewport_size({"width": 375, "height": 720})
    page.goto(f"{site}{route}")
    page.wait_for_selector("main h1")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375


def test_both_classes_of_an_error_stand_side_by_side_on_a_phone(page, site):
    page.set_viewport_size({"width": 375, "height": 720})
    page.goto(f"{site}#/errors")
    page.wait_for_selector(".error .viewer[data-ready]")
    predicted, true = (one.bounding_box() for one in page.locator(".error .viewer").all())
    assert predicted["y"] == true["y"]
    assert predicted["x"] + predicted["width"] < true["x"]


def test_the_theme_switches_and_stays(page, site):
    page.goto(site)
    page.wait_for_selector("main h1")
    page.locator("#theme").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
