"""The network as it stands: a cell of every study, beside the grid."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bnrecal import networks, tasks
from bnrecal.measure.images import evaluation_parts
from bnrecal.store.store import Store

GRID = ("--task", "tiny", "--arch", "arch1,arch3", "--bs", "4,8", "--samples", "32,64")


@pytest.fixture(autouse=True)
def _as_users_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BNRECAL_BASELINE")


def test_each_architecture_is_measured_once_as_it_stands(bnrecal: Callable[..., Any]) -> None:
    """Whatever the grid: no batch, no images, no order, and the metric of the untouched network."""
    assert bnrecal("sweep", *GRID, "--repeats", 2).code == 0
    rows = Store(Path("results")).rows()
    stored = [row for row in rows if row["estimator"] == "stored"]
    assert [row["arch"] for row in stored] == ["arch1", "arch3"]
    assert len(rows) == 2 + 2 * 2 * 2 * 2
    task = tasks.get("tiny")
    for row in stored:
        assert (row["batch_size"], row["n_samples"], row["n_updates"]) == (None, 0, 0)
        assert (row["seed"], row["momentum"], row["order_digest"], row["update"]) == (None,) * 4
        network = networks.get().build(row["arch"])
        parts = evaluation_parts(task, network.module.eval(), network, torch.device("cpu"))
        assert row["eval"] == pytest.approx(task.score_evaluation(parts), abs=1e-6)


def test_the_baseline_can_be_left_out_and_be_all(bnrecal: Callable[..., Any]) -> None:
    """--no-baseline: the grid alone; --estimator stored: the networks as they stand alone."""
    for options, n in (((), 10), (("--no-baseline",), 8), (("--estimator", "stored"), 2)):
        assert f"{n} of {n} cells to do" in bnrecal("sweep", *GRID, *options, "--dry-run").out


def test_a_stored_cell_is_traced_and_repeated(bnrecal: Callable[..., Any]) -> None:
    """`show` prints the command that does it again, `verify` finds the same figure."""
    assert bnrecal("sweep", *GRID, "--estimator", "stored", "--threads", 1).code == 0
    row = Store(Path("results")).rows()[0]
    shown = bnrecal("show", row["key"])
    assert "--estimator stored" in shown.out
    ran = bnrecal("verify", "--sample", 2)
    assert ran.code == 0
    assert ran.out.count("arch1 as it stands: equal") == 1


def test_only_stored_rows_may_lack_a_batch_size(tmp_path: Path, bnrecal: Callable[..., Any]) -> None:
    """A row of any other estimator without one is damaged, and the line says so."""
    assert bnrecal("sweep", *GRID, "--estimator", "stored").code == 0
    path = Path("results/rows.jsonl")
    path.write_text(path.read_text().replace('"stored"', '"pooled"'))
    ran = bnrecal("report")
    assert ran.code == 2
    assert "line 1" in ran.err
    assert "no batch_size" in ran.err


def test_single_networks_are_not_recalibrated_by_nothing(bnrecal: Callable[..., Any]) -> None:
    """--estimator stored re-estimates nothing, so there is nothing to write."""
    ran = bnrecal("recalibrate", "--task", "tiny", "--arch", "arch1", "--estimator", "stored", "-o", "w")
    assert (ran.code, "'stored' re-estimates nothing" in ran.err) == (2, True)
