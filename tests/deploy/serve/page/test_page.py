"""The demo page, in a browser."""

from __future__ import annotations

import pytest

from tests.support.browser import browser
from tests.support.predicting import TASKS
from tests.support.serve_process import Service

pytestmark = pytest.mark.integration


def test_the_page_in_a_browser(service: Service) -> None:
    hostile = "good film <img src=x onerror=alert(1)>"
    with browser(service.url("")) as tab:
        tab.select_option("#task", "mood")
        tab.fill("#first", hostile)
        tab.click("button")
        tab.wait_for_selector("#words mark")
        assert tab.locator("#prediction").inner_text() in TASKS["mood"].labels
        assert tab.locator("#shares tr").count() == 3 and tab.locator("#words img").count() == 0
        assert tab.locator("#second").is_hidden()
        tab.select_option("#task", "sim")
        tab.fill("#second", "was very bad,")
        tab.click("button")
        tab.wait_for_selector("#words p + p mark")
        for width in (1280, 390):
            tab.set_viewport_size({"width": width, "height": 900})
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.complaints == []
