"""docs/ as a site: builds without a warning, holds what it should, and asks nobody for anything."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import bnrecal
from bnrecal.cli.app import cli
from tests.docs.blocks import ROOT

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", source, target]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    done = build(ROOT / "docs", target)
    assert done.returncode == 0, done.stderr
    return target


def test_every_page_has_its_place_and_every_name_its_documentation(site: Path) -> None:
    """Pages of docs/, commands of the command line, names of the package; search has an index."""
    pages = [path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")]
    assert len(pages) > 15
    assert not [page for page in pages if not (site / page).is_file()]
    reference = (site / "reference/command_line.html").read_text("utf-8")
    assert not [name for name in cli.commands if f'id="bnrecal-{name}"' not in reference]
    python = (site / "reference/python.html").read_text("utf-8")
    names = [name for name in bnrecal.__all__ if name != "norms"]
    assert not [name for name in names if f'.{name}"' not in python]
    assert "prequenti" in (site / "searchindex.js").read_text("utf-8")


def test_links_out_of_docs_lead_to_the_repository(site: Path) -> None:
    """By the URL of pyproject.toml; none is left that leaves the site by dots."""
    text = (site / "science/harm.html").read_text("utf-8")
    assert 'href="https://github.com/bnrecal/bnrecal/blob/main/results/elpv_stored/FINDINGS.md"' in text
    for page in site.rglob("*.html"):
        for link in re.findall(r'href="([^"#:]+)(?:#[^"]*)?"', page.read_text("utf-8")):
            assert (page.parent / link).resolve().is_relative_to(site), link


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# A page\n\n[a](../results/nowhere.md)\n", "docs/page: ../results/nowhere.md"),
        ("# A page\n\n[a](nowhere.md)\n", "nowhere.md"),
        ("# A page\n\n```{literalinclude} nowhere.py\n```\n", "nowhere.py"),
    ],
)
def test_a_page_that_leads_nowhere_does_not_build(tmp_path: Path, text: str, said: str) -> None:
    """A file that is not there, in the repository or in docs/, ends the build and is named."""
    shutil.copytree(
        ROOT / "docs", tmp_path / "docs", ignore=lambda _, names: {n for n in names if n != "conf.py"}
    )
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "docs/index.md").write_text("# Site\n\n```{toctree}\npage\n```\n")
    (tmp_path / "docs/page.md").write_text("# A page\n\n[readme](../README.md)\n")
    assert build(tmp_path / "docs", tmp_path / "first").returncode == 0
    (tmp_path / "docs/page.md").write_text(text)
    done = build(tmp_path / "docs", tmp_path / "second")
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on the path (apt-get install chromium)")
def test_the_site_in_a_browser(site: Path) -> None:
    """Nothing is asked of the network; pages fit a telephone; search finds; light and dark differ."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        backgrounds = set()
        for scheme in ("light", "dark"):
            context = browser.new_context(viewport={"width": 400, "height": 800}, color_scheme=scheme)
            page = context.new_page()
            asked: list[str] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            for name in ("index", "science/law", "reference/python"):
                page.goto((site / f"{name}.html").as_uri())
                assert page.evaluate("document.documentElement.scrollWidth") <= 400, name
                assert page.evaluate("[...document.images].filter(i => !i.naturalWidth).length") == 0, name
            backgrounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
            context.close()
        found: Any = browser.new_page()
        found.goto(f"{(site / 'search.html').as_uri()}?q=prequential")
        found.wait_for_selector("#search-results li")
        assert "law" in found.inner_text("#search-results")
        browser.close()
    assert len(backgrounds) == 2
