"""Trained networks in every format: the same figures, within 80 columns, with a figure of what varies."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnrecal.report.analysis.summary import make_report
from bnrecal.report.formats.figures import pictures_of
from bnrecal.store.store import Store
from tests.report.analysis.test_by_axes import study, trained

FIGURE = "0.5700"  # norm batch 2, re-estimated


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    store = Store(tmp_path / "results")
    store.prepare()
    for row in study({2: 0.05, 8: 0.0, 16: 0.0}):
        store.append(row)
    return store.folder


@pytest.mark.parametrize("layout", ["table", "md", "latex", "html", "csv", "json", "long"])
def test_every_format_has_the_figures(
    bnrecal: Callable[..., Any], stored: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """A mean over trainings in the tables, single cells in the formats of rows; no axis is lost."""
    monkeypatch.setenv("COLUMNS", "80")
    ran = bnrecal("report", "--out", stored, "--format", layout)
    assert ran.code == 0, ran.err
    assert (FIGURE if layout not in ("csv", "json") else "0.57") in ran.out
    if layout in ("table", "md", "latex", "html"):
        assert "as it stands" in ran.out
        assert "Along norm batch" in ran.out
        assert "over 3 trainings" in " ".join(ran.out.split())
    if layout == "table":
        assert max(map(len, ran.out.splitlines())) <= 80


def test_rows_and_columns_are_chosen_and_refused(bnrecal: Callable[..., Any], stored: Path) -> None:
    """--rows and --columns turn the table; an axis that does not vary is one line with those that do."""
    ran = bnrecal("report", "--out", stored, "--rows", "norm batch", "--columns", "images")
    assert "norm batch \\ images" in ran.out
    bad = bnrecal("report", "--out", stored, "--rows", "lr")
    assert (bad.code, bad.err.count("\n")) == (2, 1)
    assert "--rows: unknown axis 'lr'; valid: norm batch" in bad.err


def test_the_figure_has_a_line_for_each_rule_and_words_for_it(stored: Path) -> None:
    """Where one number varies in training: as it stands, and each rule at its most images."""
    (picture,) = pictures_of(make_report(Store(stored).evaluated()))
    (panel,) = picture.panels
    assert "as it stands: 2 0.520, 8 0.580, 16 0.660" in panel.alt
    assert "pooled, 512 images: 2 0.570" in panel.alt
    assert "Student's t" in picture.caption


def test_several_kinds_of_network_are_lines_of_two_panels() -> None:
    """Norm x norm batch: a panel as they stand, one re-estimated, a line for each norm."""
    rows = []
    for norm, level in (("bn", 0.5), ("brn", 0.6)):
        for size in (4, 16):
            recipe = {"norm_batch": size} if norm == "bn" else {"norm": norm, "norm_batch": size}
            rows += trained(recipe, {("stored", None): level, ("pooled", 64): level + 0.1})
    *_, picture = pictures_of(make_report(rows))
    first, second = picture.panels
    assert first.title == "as it stands"
    assert "bn: 4 0.500, 16 0.500; brn: 4 0.600" in first.alt
    assert "brn: 4 0.700" in second.alt


def test_without_a_number_that_varies_there_is_no_figure() -> None:
    """Two norms alone: a table is enough."""
    rows = [*trained({"norm": "gn"}, {("stored", None): 0.5}), *trained({}, {("stored", None): 0.4})]
    assert pictures_of(make_report(rows)) == []
