"""The HTML report in a real headless Chromium: accessible, silent on the network, fits its window."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report.formats.test_formats import study

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on the path (apt-get install chromium)")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page_file(bnrecal: Callable[..., Any], tmp_path: Path) -> Path:
    folder = study(tmp_path / "results")
    path = tmp_path / "report.html"
    assert bnrecal("report", "--out", folder, "--format", "html", "-o", path).code == 0
    return path


def test_the_page_in_light_and_dark_on_wide_and_narrow_windows(browser: Any, page_file: Path) -> None:
    """At 400 and 1,400 px in both schemes: no axe violation, no request, no message, no sideways scroll."""
    import axe_playwright_python

    axe = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")
    for width in (400, 1400):
        for scheme in ("light", "dark"):
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page = context.new_page()
            asked: list[str] = []
            said: list[str] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.on("console", lambda message, said=said: said.append(message.text))
            page.goto(page_file.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert [url for url in asked if not url.startswith("data:")] == [page_file.as_uri()]
            page.evaluate(axe)
            found = page.evaluate("axe.run()")
            assert len(found["passes"]) > 20
            assert [(v["id"], v["nodes"][0]["html"]) for v in found["violations"]] == []
            assert said == []
            context.close()


def test_the_page_works_with_the_keyboard(browser: Any, page_file: Path) -> None:
    """The first stop skips to the report; wide tables are stops that can be scrolled."""
    page = browser.new_page(viewport={"width": 400, "height": 900})
    page.goto(page_file.as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    stops = []
    for _ in range(6):
        page.keyboard.press("Tab")
        stops.append(page.evaluate("document.activeElement.getAttribute('aria-label')"))
    assert "Table of all cells" in stops
    page.close()
