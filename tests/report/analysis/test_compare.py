"""`bnrecal compare`: exit code 4 for what fell beyond tolerance and noise, for nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnrecal.store import evidence
from bnrecal.store.store import Store
from tests.report.test_report import row

RIGHT = np.random.default_rng(1).random(4000) < 0.6


def results(folder: Path, right: Any, with_evidence: bool = True, **fields: Any) -> Path:
    """One cell with these per-image outcomes, its key as a sweep of other weights would have it."""
    store = Store(folder)
    store.prepare()
    key = f"{abs(hash(str(folder))):016x}"[:16]
    if with_evidence:
        evidence.keep(folder, key, {"correct": np.asarray(right, np.uint8)})
    made = row("a", 8, 64, 0.1, key=key, eval=float(np.mean(right)), metric="top1")
    store.append(made | fields)
    return folder


def worse(by: int) -> Any:
    """`by` right answers lost."""
    lost = RIGHT.copy()
    lost[np.flatnonzero(RIGHT)[:by]] = False
    return lost


def noisy(by: int, turned: int) -> Any:
    """`by` more lost than won, `turned` turned in all."""
    out = RIGHT.copy()
    out[np.flatnonzero(RIGHT)[: (turned + by) // 2]] = False
    out[np.flatnonzero(~RIGHT)[: (turned - by) // 2]] = True
    return out


def test_the_networks_as_they_stand_are_compared_too(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """A stored cell is found again by architecture alone, its interval paired; its fall is a regression."""
    as_it_is = {"estimator": "stored", "momentum": None, "seed": None, "n_updates": 0, "update": None}
    facts = {**as_it_is, "batch_size": None, "n_samples": 0}
    one, two = results(tmp_path / "one", RIGHT, **facts), results(tmp_path / "two", worse(40), **facts)
    ran = bnrecal("compare", one, two, "--format", "json")
    (pair,) = json.loads(ran.out)["cells"]
    assert (ran.code, pair["rule"], pair["verdict"], pair["paired"]) == (4, "stored", "regression", True)
    table = bnrecal("compare", one, two)
    assert "1 cell in both: 1 regressed" in table.out
    assert "None" not in table.out


CASES = [
    ("the same", RIGHT, True, 0, "1 the same"),
    ("fell within the tolerance", worse(8), True, 0, "1 fell within the tolerance"),
    ("regression", worse(40), True, 4, "1 regressed"),
    ("a fall within noise", noisy(40, 2000), True, 0, "1 differ within noise"),
    ("the figures alone, without evidence", noisy(40, 2000), False, 4, "1 regressed"),
    ("a rise", RIGHT | (np.arange(4000) % 50 == 0), True, 0, "1 rose"),
]


@pytest.mark.parametrize(
    ("what", "after", "with_evidence", "code", "words"), CASES, ids=[c[0] for c in CASES]
)
def test_what_is_a_regression(
    bnrecal: Callable[..., Any],
    tmp_path: Path,
    what: str,
    after: Any,
    with_evidence: bool,
    code: int,
    words: str,
) -> None:
    """More than .003 lower, and beyond the paired interval where both sets hold evidence."""
    one = results(tmp_path / "one", RIGHT, with_evidence)
    two = results(tmp_path / "two", after, with_evidence)
    ran = bnrecal("compare", one, two)
    assert ran.code == code, ran.out
    assert words in " ".join(ran.out.split())


def test_a_cell_that_fails_now_is_a_regression(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """Done before, failed after: 4; the other way round: nothing to compare."""
    one = results(tmp_path / "one", RIGHT)
    two = tmp_path / "two"
    Store(two).prepare()
    Store(two).append(row("a", 8, 64, 0.1, key="ff00", status="failed", error="x", metric="top1"))
    assert bnrecal("compare", one, two).code == 4
    back = bnrecal("compare", two, one)
    assert back.code == 2
    assert "no finished cell in common" in back.err


def test_the_tolerance_is_the_users(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """A fall of .01 is none at a tolerance of .02."""
    one, two = results(tmp_path / "one", RIGHT), results(tmp_path / "two", worse(40))
    assert bnrecal("compare", one, two, "--tolerance", 0.02).code == 0
    ran = bnrecal("compare", one, two, "--format", "json", "-o", "out.json")
    assert (ran.code, ran.out) == (4, "")
    facts = json.loads(Path("out.json").read_text())
    assert facts["n_regressions"] == 1
    assert facts["cells"][0]["change"] == pytest.approx(-0.01)
    assert facts["cells"][0]["low"] < -0.01 < facts["cells"][0]["high"] < 0
    assert facts["cells"][0]["paired"] is True


def test_other_weights_and_data_are_told(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """Cells match by what was asked for; what lies beneath is named, and other images are not paired."""
    one = results(tmp_path / "one", RIGHT, weights_digest="w1")
    two = results(tmp_path / "two", worse(40), weights_digest="w2", data_digest="e")
    ran = bnrecal("compare", one, two, "--format", "json")
    facts = json.loads(ran.out)
    assert facts["notes"] == ["weights differ in 1 cell", "data differ in 1 cell"]
    assert facts["cells"][0]["paired"] is False
    assert ran.code == 0  # unpaired, a fall of .01 is within noise


@pytest.mark.parametrize("columns", ["80"])
def test_the_table_fits_eighty_columns(
    bnrecal: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    """Nothing is cut."""
    monkeypatch.setenv("COLUMNS", columns)
    one, two = results(tmp_path / "one", RIGHT), results(tmp_path / "two", worse(40))
    text = bnrecal("compare", one, two).out
    assert max(map(len, text.splitlines())) <= 80
    assert "regression" in text
    assert "…" not in text


def test_a_folder_without_rows_is_named(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """Exit code 2 and one line, not a comparison with nothing."""
    ran = bnrecal("compare", results(tmp_path / "one", RIGHT), tmp_path / "nowhere")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "nowhere: no rows there" in ran.err


def test_trained_cells_are_matched_by_their_recipe(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """Cells that differ by recipe alone are different cells, whatever their order, and named by it."""
    recipes = ({"norm_batch": 4}, {"norm_batch": 8}, None)
    for name, order in (("one", (0, 1, 2)), ("two", (2, 1, 0))):
        store = Store(tmp_path / name)
        store.prepare()
        for k in order:
            more = {} if recipes[k] is None else {"trained": f"training{k}", "recipe": recipes[k]}
            store.append(row("a", 8, 64, 0.1, key=f"{name}{k}", eval=0.5 + k / 10) | more)
    ran = bnrecal("compare", tmp_path / "one", tmp_path / "two", "--format", "json")
    pairs = json.loads(ran.out)["cells"]
    assert (ran.code, [pair["verdict"] for pair in pairs]) == (0, ["same"] * 3)
    assert [pair["recipe"] for pair in pairs] == ["norm batch 4", "norm batch 8", None]
    assert "a, norm batch 8" in bnrecal("compare", tmp_path / "one", tmp_path / "two").out


def test_the_table_follows_the_grid_whatever_the_order_of_rows(
    bnrecal: Callable[..., Any], tmp_path: Path
) -> None:
    """As they stand, then by rule, batch size, samples and architecture; the largest fall is told below."""
    cells = [("a", 8, 64), ("b", 8, 64), ("a", 8, 1024), ("b", 8, 1024), ("a", 16, 64), ("b", 16, 64)]
    for name, order, fall in (("one", (0, 1, 2, 3, 4, 5), 0.0), ("two", (5, 3, 1, 0, 2, 4), 0.1)):
        store = Store(tmp_path / name)
        store.prepare()
        for k in order:
            arch, size, n = cells[k]
            worse = fall if k == 3 else -0.01
            store.append(row(arch, size, n, 0.1, key=f"{name}{k}", eval=0.5 - worse, metric="top1"))
        stands = {"estimator": "stored", "momentum": None, "seed": None, "batch_size": None, "n_samples": 0}
        store.append(row("b", 8, 64, 0.1, key=f"{name}s", metric="top1") | stands)
    for folders in (("one", "two"), ("two", "one")):
        out = bnrecal("compare", *folders).out
        lines = [line.split() for line in out.splitlines() if line.strip()[:2] in ("a ", "b ")]
        assert lines[0][:2] == ["b", "stored"]
        found = [(line[0], int(line[3]), int(line[4].replace(",", ""))) for line in lines[1:]]
        assert found == cells
    said = " ".join(bnrecal("compare", "one", "two").out.split())
    assert "the largest fall is 0.1000, b by ema, momentum 0.1, bs 8, 1,024 images" in said
    assert "largest fall" not in bnrecal("compare", "one", "one").out
