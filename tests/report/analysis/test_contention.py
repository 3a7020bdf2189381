"""Times taken beside other work: said where rows show it, and only there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnrecal.report.analysis.contention import contention_of, is_disturbed
from bnrecal.report.analysis.sections import sections_of
from bnrecal.store.store import Row, Store
from tests.report.test_report import row


def cell(n: int, threads: object, left: float | None, **fields: Any) -> Row:
    return row("a", 8, n, 0.1, environment={"threads": threads}, cpus_left=left, **fields)


@pytest.mark.parametrize(
    ("found", "disturbed"),
    [
        (cell(64, 2, 1.76), False),
        (cell(64, 2, 1.75), True),
        (cell(64, 1, 1.0), False),  # one other process, two processors: a processor each
        (cell(64, 1, 0.67), True),  # two others: two thirds of a processor
        (cell(64, 2, 64.0), False),
        (cell(64, 2, 0.5, device="cuda:0"), False),  # a GPU does the work
        (cell(64, 2, None), False),
        (row("a", 8, 64, 0.1), False),  # as older bnrecals wrote them
        (cell(64, None, 0.1), False),
    ],
)
def test_contention_is_threads_without_a_processor(found: Row, disturbed: bool) -> None:
    """A quarter of a processor or more missing beside the pass's threads; nothing is guessed."""
    assert is_disturbed(found) is disturbed


def test_the_sentence_counts_cells_and_names_the_worst() -> None:
    """Two of three disturbed; the one with most missing is named with what it had."""
    rows = [cell(64, 2, 1.98), cell(128, 2, 1.2), cell(256, 2, 0.5)]
    (section,) = sections_of(rows)
    (finding,) = contention_of(section)
    assert "Times of 2 of 3 cells were taken under contention" in finding.text
    assert "left 0.50 processors to 2 threads at the least (a at bs 8, 256 images)" in finding.text
    (quiet,) = sections_of(rows[:1])
    assert contention_of(quiet) == []


def test_the_report_says_it(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """Printed for a store with one disturbed cell, absent for the same store without."""
    for name, left, said in (("busy", 0.6, True), ("quiet", 1.0, False)):
        store = Store(tmp_path / name)
        store.prepare()
        store.append(cell(64, 1, left))
        text = " ".join(bnrecal("report", "--out", store.folder).out.split())
        assert ("taken under contention" in text) is said
