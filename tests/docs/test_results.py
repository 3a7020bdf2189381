"""What is committed of the kept studies is what their rows say now; `make results` mends it."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.docs.blocks import ROOT, name_of


def results() -> ModuleType:
    """experiments/results.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("results", ROOT / "experiments/results.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MADE = results()
MEND = "run `make results` and look at what changed"


def without_drawings(text: str) -> str:
    """A page without what another version of matplotlib draws in another way."""
    return re.sub(r"<svg.*?</svg>", "<svg>", text, flags=re.DOTALL)


@pytest.mark.parametrize("study", MADE.TEXTS)
def test_the_reports_of_a_study_are_those_of_its_rows(study: str) -> None:
    """Every table and every sentence."""
    for name, text in MADE.texts(study).items():
        kept = (ROOT / "results" / study / name).read_text("utf-8")
        assert without_drawings(kept) == without_drawings(text), MEND


@pytest.mark.parametrize("page", MADE.pages(), ids=name_of)
def test_tables_on_a_page_are_those_of_the_studies(page: Path) -> None:
    """What stands between the marks is what the rows give."""
    text = page.read_text("utf-8")
    assert MADE.filled(text) == text, MEND


def test_every_store_that_is_kept_has_its_line_in_the_list_of_studies() -> None:
    """results/README.md names each folder, and nothing that is not there."""
    text = (ROOT / "results/README.md").read_text("utf-8")
    named = set(re.findall(r"\]\((\w+)/", text))
    assert named == {path.name for path in (ROOT / "results").iterdir() if path.is_dir()}
    assert set(MADE.TEXTS) <= named
    assert len(MADE.TEXTS) >= 6


def test_figures_that_are_kept_are_those_that_the_report_has() -> None:
    """Each as SVG and PNG, no other left behind."""
    for study in MADE.TEXTS:
        folder = ROOT / "results" / study / "figures"
        if MADE.has_figures(study):
            names = [picture.name for picture in MADE.pictures_of(MADE.report_of(study))]
            wanted = {f"{name}.{kind}" for name in names for kind in ("svg", "png")}
            assert {file.name for file in folder.iterdir()} == wanted


def test_a_block_that_nobody_makes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt mark is no block that is silently left as it is; a stale one is replaced."""
    with pytest.raises(KeyError, match="imgaes"):
        MADE.marks("<!-- imgaes -->\n<!-- /imgaes -->")
    monkeypatch.setitem(MADE.BLOCKS, "law", lambda: "new")
    assert MADE.filled("a\n<!-- law -->\nold\n<!-- /law -->\nb") == (
        "a\n<!-- law -->\n\nnew\n\n<!-- /law -->\nb"
    )


def test_the_script_writes_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `make results` calls it, for one study: texts and figures in their folders."""
    monkeypatch.setattr(MADE, "TEXTS", {"norm_batch": MADE.TEXTS["norm_batch"]})
    monkeypatch.setattr(MADE, "pages", lambda: [])
    MADE.write(tmp_path)
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {
        f"results/norm_batch/{name}" for name in ("report.md", "figures/trained.svg", "figures/trained.png")
    }
    assert sys.modules.get("results") is None


def test_what_readme_says_of_its_table_is_in_it() -> None:
    """The ranges in the sentence below the table are those of its rows."""
    text = (ROOT / "README.md").read_text("utf-8")
    lines = re.findall(r"^\| (ema|cumulative|pooled)[^|]*\|(.*)\|$", text, re.MULTILINE)
    numbers = {rule: [int(n.replace(",", "")) for n in re.findall(r"[\d,]+", cells)] for rule, cells in lines}
    averages = numbers["cumulative"] + numbers["pooled"]
    said = re.sub(r"\s+", " ", text)
    assert f"average of {min(averages)} to {max(averages)} images does" in said
    assert f"with {min(numbers['ema']):,} to {max(numbers['ema']):,}." in said
