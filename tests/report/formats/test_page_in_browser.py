"""The HTML report in a real headless Chromium: accessible, silent on the network, fits its window."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report.formats.test_formats import study
from tests.report.kept import rows_of

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


def looked_at(browser: Any, path: Path, width: int, scheme: str) -> None:
    """The page fits, asks for nothing, says nothing, and axe finds nothing, with all folds open."""
    import axe_playwright_python

    axe = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    page.evaluate(axe)
    found = page.evaluate("axe.run()")
    assert len(found["passes"]) > 20
    assert [(v["id"], v["nodes"][0]["html"]) for v in found["violations"]] == []
    assert said == []
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_in_light_and_dark_on_wide_and_narrow_windows(
    browser: Any, page_file: Path, width: int, scheme: str
) -> None:
    """No axe violation, no request, no message, no sideways scroll."""
    looked_at(browser, page_file, width, scheme)


@pytest.mark.parametrize(
    ("study", "width", "scheme"),
    [("images_needed", 400, "dark"), ("norm_batch", 400, "light"), ("norm_batch", 1400, "dark")],
)
def test_pages_of_the_kept_studies(
    browser: Any, bnrecal: Callable[..., Any], tmp_path: Path, study: str, width: int, scheme: str
) -> None:
    """Of 429 cells, and of networks that were trained: the same."""
    path = tmp_path / "report.html"
    assert bnrecal("report", "--out", rows_of(study, tmp_path), "--format", "html", "-o", path).code == 0
    looked_at(browser, path, width, scheme)


@pytest.fixture
def opened(browser: Any, page_file: Path) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 400, "height": 900})
    page.goto(page_file.as_uri())
    yield page
    page.close()


def test_the_page_works_with_the_keyboard(opened: Any) -> None:
    """The first stop skips to the report; headings that sort are stops, and tables that can be scrolled."""
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.textContent") == "Skip to the report"
    opened.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    stops: list[tuple[str, str | None]] = []
    for _ in range(60):
        opened.keyboard.press("Tab")
        stops.append(
            opened.evaluate("((at) => [at.tagName, at.ariaLabel || at.textContent])(document.activeElement)")
        )
    assert ["DIV", "All cells, a table"] in stops
    assert ["BUTTON", "eval"] in stops
    assert ["INPUT", ""] in stops


def test_contents_lead_to_every_section(opened: Any) -> None:
    """Each heading of a section and each topic of a single study is linked, and each link has its place."""
    links = opened.evaluate("[...document.querySelectorAll('nav a')].map((a) => a.getAttribute('href'))")
    assert len(links) == len(set(links)) > 5
    assert all(opened.evaluate("(id) => Boolean(document.querySelector(id))", link) for link in links)
    headings = opened.evaluate("[...document.querySelectorAll('main h2')].map((h) => '#' + h.id)")
    assert set(headings) <= set(links)


def column(page: Any, name: str) -> list[str]:
    """The cells of a column that are shown."""
    found: list[str] = page.evaluate(
        """(name) => {
            const table = document.querySelector("table.all");
            const k = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent.trim() === name);
            const shown = [...table.tBodies[0].rows].filter((row) => !row.hidden);
            return shown.map((row) => row.cells[k].textContent);
        }""",
        name,
    )
    return found


def test_rows_are_sorted_by_a_column_up_and_down(opened: Any) -> None:
    """By value, not by letters; the heading says so; the order among equals is that of the study."""
    before = column(opened, "eval")
    assert before != sorted(before)
    button = opened.get_by_role("button", name="eval", exact=True)
    button.click()
    assert column(opened, "eval") == sorted(before)
    assert opened.evaluate("document.querySelector('th[aria-sort]').textContent") == "eval"
    button.click()
    assert column(opened, "eval") == sorted(before, reverse=True)
    opened.get_by_role("button", name="images", exact=True).click()
    assert column(opened, "images") == ["2,560"] * 12 + ["5,120"] * 12 + ["10,240"] * 12
    opened.get_by_role("button", name="bs", exact=True).click()
    assert column(opened, "bs") == ["8"] * 9 + ["16"] * 9 + ["32"] * 9 + ["64"] * 9
    assert opened.locator("th[aria-sort]").count() == 1


def test_rows_are_filtered_by_words_and_figures(opened: Any) -> None:
    """All words have to be in a row; 64 is a batch size, and not a part of 0.3644; none shows all again."""
    field = opened.get_by_role("searchbox")
    field.fill("arch1 64")
    assert column(opened, "bs") == ["64"] * 3
    assert set(column(opened, "arch")) == {"arch1"}
    assert "3 of 36 rows" in opened.inner_text("output")
    field.fill("5120")
    assert column(opened, "images") == ["5,120"] * 12
    field.fill("nothing of this")
    assert column(opened, "bs") == []
    field.fill("")
    assert len(column(opened, "bs")) == 36


def test_long_tables_are_folded_and_yet_printed(
    browser: Any, bnrecal: Callable[..., Any], tmp_path: Path
) -> None:
    """More cells than fit a screen stay closed until they are asked for; on paper they are open."""
    folder = study(tmp_path / "long", tuple(f"arch{k}" for k in range(1, 9)))
    path = tmp_path / "long.html"
    assert bnrecal("report", "--out", folder, "--format", "html", "-o", path).code == 0
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(path.as_uri())
    table = page.locator("table.all")
    assert not table.is_visible()
    folded = page.evaluate("document.documentElement.scrollHeight")
    page.emulate_media(media="print")
    assert table.is_visible()
    page.emulate_media(media="screen")
    page.get_by_text("96 rows, to sort and filter").click()
    assert table.is_visible()
    assert page.evaluate("document.documentElement.scrollHeight") > folded + 1000
    page.close()


def test_without_scripts_the_tables_are_there(browser: Any, page_file: Path) -> None:
    """Nothing but sorting and filtering is lost."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert page.locator("table.all tbody tr").count() == 36
    assert page.get_by_role("searchbox").count() == 0
    context.close()
