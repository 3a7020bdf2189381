"""The page's tables of all cells: every kind of row, and none forgotten."""

from pathlib import Path

from bnrecal.report.analysis.summary import make_report
from bnrecal.report.formats.all_cells import MOST_CELLS, cell_tables
from bnrecal.store.store import Store
from tests.report.test_report import row

RESULTS = Path(__file__).parents[3] / "results"


def test_trained_networks_have_a_table_of_their_own() -> None:
    """A line for each of the 240 cells, by what varied in training, as it stands or re-estimated."""
    folder = RESULTS / "norm_batch"
    (table,) = cell_tables(make_report(Store(folder).evaluated(), folder))
    assert table.headings == ("norm batch", "seed", "rule", "bs", "images", "eval", "95 % interval")
    assert (len(table.lines), table.n, table.is_long) == (240, 240, True)
    assert all(len(line) == len(table.headings) for line in table.lines)
    standing = [line for line in table.lines if line[2] == "as it stands"]
    assert len(standing) == 15
    assert {line[3] for line in standing} == {"-"}
    assert {line[0] for line in table.lines} == {"2", "4", "8", "16", "32"}
    assert all(" to " in line[-1] for line in table.lines)


def test_a_table_says_how_many_lines_it_leaves_out() -> None:
    """More than MOST_CELLS: the first of them, and the number of all."""
    rows = [row(f"a{k}", 8, 64, 0.1) for k in range(MOST_CELLS + 5)]
    (table,) = cell_tables(make_report(rows))
    assert (len(table.lines), table.n) == (MOST_CELLS, MOST_CELLS + 5)
    assert "95 % interval" not in table.headings  # no evidence, no column


def test_a_few_lines_are_not_folded() -> None:
    (table,) = cell_tables(make_report([row("a", 8, 64, 0.1)]))
    assert not table.is_long
    assert [table.is_text(k) for k in range(3)] == [True, True, False]
