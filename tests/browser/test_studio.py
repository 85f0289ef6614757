"""The service's own pages, used in Chromium on the whole service."""

import pytest

pytestmark = pytest.mark.service


def test_first_page_opens_and_knows_the_model(page, embedded):
    page.goto(embedded.url)
    page.get_by_text("reference", exact=True).wait_for()
    assert page.title() == "Accentor"
