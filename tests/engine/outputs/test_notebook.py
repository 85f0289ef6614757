"""Results as HTML: every text escaped, every picture there."""

import base64
import io
import re

import pytest
from PIL import Image
from tests.engine.results import HEIGHT, WIDTH, made_result

from accentor.engine import gallery
from accentor.errors import InvalidRequestError
from accentor.spec import Logit

NASTY = "<script>\"x\"&'y'</script>"


def pictures(html):
    found = re.findall(r'src="data:image/webp;base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB") for data in found]


def near(one, other):
    pairs = zip(one.convert("RGB").tobytes(), other.convert("RGB").tobytes(), strict=True)
    return max(abs(a - b) for a, b in pairs) < 40


def test_card_shows_seed_result_and_overlay():
    result = made_result()
    html = result._repr_html_()
    found = pictures(html)
    assert [picture.size for picture in found] == [(WIDTH, HEIGHT)] * 3
    for picture, expected in zip(found, (result.seed_image, result.image, result.what), strict=True):
        assert near(picture, expected)
    assert not near(found[0], found[1])
    assert "1.5 → <b>4</b>" in html
    assert "4 steps, distance 0.75, random seed 3, tiny" in html
    assert "target reached" in made_result(stopped_at=2)._repr_html_()


def test_text_is_escaped():
    result = made_result(feature=Logit(unit=NASTY), notes=(NASTY,), model=NASTY)
    html = result._repr_html_()
    assert "<script" not in html
    assert html.count("&lt;script&gt;&quot;x&quot;&amp;&#x27;y&#x27;") == 6


def test_gallery_in_a_notebook_shows_all():
    results = [made_result(), made_result(feature=Logit(unit=7))]
    html = gallery(results)._repr_html_()
    assert html == results[0]._repr_html_() + results[1]._repr_html_()
    with pytest.raises(InvalidRequestError, match="no results"):
        gallery([])


def test_gallery_as_a_page(tmp_path):
    shown = [made_result(swept=True), made_result(feature=Logit(unit=NASTY), notes=(NASTY,))]
    path = gallery(shown).save(tmp_path / "new" / "index.html", title="<t>")
    page = path.read_text()
    assert "<script" not in page
    assert "&lt;t&gt;" in page
    assert "2 accentuations." in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert len(pictures(page)) == 2 * 5 + 3
    radios = re.findall(r'<input type="radio" name="(sweep-\d+)"( checked)?>\s*<span class="stop">([^<]+)', page)
    assert radios == [("sweep-0", "", "-0.5"), ("sweep-0", "", "0"), ("sweep-0", " checked", "1")]
    for picture, expected in zip(pictures(page[page.index('class="sweep"') :]), shown[0].sweep_images, strict=False):
        assert near(picture, expected)
    assert "strength -0.5: 0.5<" in page


def test_a_page_puts_the_results_of_a_feature_together(tmp_path):
    first, second = Logit(unit="yew"), Logit(unit="ash")
    shown = [made_result(feature=feature, seed=seed) for seed, feature in enumerate((first, second, first))]
    page = gallery(shown).save(tmp_path / "index.html").read_text()
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["logit:yew", "logit:ash"]
    assert re.findall(r"random seed (\d), tiny</span>", page) == ["0", "2", "1"]
