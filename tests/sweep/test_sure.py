"""`bnrecal sweep --stop-when-sure`: settings shown worse are not refined, and every cell left out is told."""

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.store import evidence
from bnrecal.store.store import Store
from bnrecal.sweep.sure import rounds_of, worse
from tests.executors.processes import PATIENCE_S, start
from tests.report.test_report import row
from tests.study.test_study import cells

# Of 64 scenes: 2 updates by ema 0.1 keep most of the start, which is far worse on every architecture.
GRID = (
    "--task",
    "tiny",
    "--arch",
    "arch1,arch2,arch3",
    "--bs",
    "8,64",
    "--samples",
    "64,256",
    "--threads",
    1,
)
BOTH = (*GRID, "--estimator", "ema,pooled", "--repeats", 2)
COLD = ("ema", 0.1, 64, 64)


def settings_of(rows: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    return {(r["estimator"], r["momentum"], r["batch_size"], r["n_samples"]) for r in rows}


def by_status(folder: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    rows = Store(Path(folder)).latest()
    return [r for r in rows if r["status"] == "done"], [r for r in rows if r["status"] == "skipped"]


def figures(folder: str) -> dict[str, tuple[Any, Any]]:
    return {r["key"]: (r["status"], r.get("eval")) for r in Store(Path(folder)).latest()}


@pytest.fixture
def swept(bnrecal: Callable[..., Any]) -> Any:
    ran = bnrecal("sweep", *BOTH, "--stop-when-sure", "--out", "sure")
    assert ran.code == 0, ran.err
    return ran


def test_what_is_shown_worse_is_not_refined_and_each_cell_is_told(
    bnrecal: Callable[..., Any], swept: Any
) -> None:
    """Every cell has a row: measured, or skipped with the reason and a line. The first round is whole."""
    done, skipped = by_status("sure")
    assert len(done) + len(skipped) == 2 * 3 * 2 * 2 * 2
    assert skipped
    assert COLD in settings_of(skipped)
    first = [r for r in done if (r["arch"], r["seed"]) == ("arch1", 0)]
    assert len(first) == 8
    for one in skipped:
        assert one["reason"].startswith("shown worse on arch")
        assert f"skipped, {one['reason']}" in swept.err
        assert "eval" not in one
    assert f"{len(skipped)} cells left out, of settings shown worse" in swept.err
    assert swept.err.count(": skipped, ") == len(skipped)


def test_without_it_nothing_is_left_out_and_figures_are_the_same(
    bnrecal: Callable[..., Any], swept: Any
) -> None:
    """Off by default; what both measure is equal to the last bit; a plain sweep does what was left out."""
    assert bnrecal("sweep", *BOTH, "--out", "whole").code == 0
    whole = figures("whole")
    assert {status for status, _ in whole.values()} == {"done"}
    done, skipped = by_status("sure")
    assert all(whole[r["key"]] == ("done", r["eval"]) for r in done)
    planned = bnrecal("sweep", *BOTH, "--out", "sure", "--dry-run").out
    assert f"{len(skipped)} of 48 cells to do" in planned
    assert bnrecal("sweep", *BOTH, "--out", "sure").code == 0
    assert figures("sure") == whole
    assert "left out" not in bnrecal("report", "sure").out


def test_a_second_time_the_same_is_left_out_once(bnrecal: Callable[..., Any], swept: Any) -> None:
    """No second row of a cell left out, and it is said again."""
    lines = Path("sure/rows.jsonl").read_text()
    again = bnrecal("sweep", *BOTH, "--stop-when-sure", "--out", "sure")
    assert (again.code, Path("sure/rows.jsonl").read_text()) == (0, lines)
    assert again.err.count(": skipped, ") == len(by_status("sure")[1])


def test_stopped_at_any_cell_it_ends_as_if_it_had_not_been(bnrecal: Callable[..., Any], swept: Any) -> None:
    """By --limit, in steps that cut rounds: the same cells are measured and the same left out."""
    for _ in range(12):
        before = len(Store(Path("steps")).evaluated())
        bnrecal("sweep", *BOTH, "--stop-when-sure", "--out", "steps", "--limit", 5)
        assert len(Store(Path("steps")).evaluated()) == min(before + 5, len(by_status("sure")[0]))
    bnrecal("sweep", *BOTH, "--stop-when-sure", "--out", "steps")
    assert figures("steps") == figures("sure")


def test_killed_and_run_again_and_with_two_processes(bnrecal: Callable[..., Any], swept: Any) -> None:
    """SIGKILL in the middle, then -j 2: as one sweep in one process."""
    options = (*map(str, BOTH), "--stop-when-sure", "--out", "killed")
    process = start("sweep", *options)
    waited = time.monotonic()
    while time.monotonic() - waited < PATIENCE_S and len(Store(Path("killed")).rows()) < 10:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert bnrecal("sweep", *options, "-j", 2).code == 0
    assert figures("killed") == figures("sure")


def test_the_reports_say_what_is_not_there(bnrecal: Callable[..., Any], swept: Any) -> None:
    """Table, Markdown and page: how many cells, of how many settings; show gives the reason of one."""
    _, skipped = by_status("sure")
    said = f"{len(skipped)} cells were left out by --stop-when-sure, of {len(settings_of(skipped))} settings"
    for kind in ("table", "md", "html"):
        text = bnrecal("report", "sure", "--format", kind).out.replace("\\", "")
        assert said in " ".join(text.split()), kind
    shown = bnrecal("show", skipped[0]["key"], "sure")
    assert shown.code == 0, shown.err
    assert f"{skipped[0]['key']}: skipped" in shown.out
    assert skipped[0]["reason"] in shown.out
    command = shown.out.splitlines()[-1].split()[2:]
    assert bnrecal("sweep", *command).code == 0
    (row,) = Store(Path(command[-1])).rows()
    assert (row["key"], row["status"]) == (skipped[0]["key"], "done")
    assert len(json.loads(bnrecal("report", "sure", "--format", "json").out)) == 48 - len(skipped)
    assert "skipped" not in bnrecal("compare", "sure", "sure").out


def test_a_study_that_trains_is_refused(bnrecal: Callable[..., Any]) -> None:
    """One line, before anything is trained."""
    grid = 'task = "tiny"\narch = ["arch1"]\nbs = [8]\nsamples = [64]\n'
    Path("study.toml").write_text(grid + '[train]\nepochs = 1\nsampling = "uniform"\n')
    ran = bnrecal("sweep", "--study", "study.toml", "--stop-when-sure")
    assert (ran.code, "a study that trains is measured whole" in ran.err) == (2, True)
    assert not os.path.exists("results/trained")


def test_rounds_are_orders_then_architectures() -> None:
    """Each cell once; a network as it stands in its architecture's first round."""
    from bnrecal.plan.grid import cells_of
    from bnrecal.plan.opened import Opened
    from bnrecal.study.study import make_study

    settings = {
        "task": "tiny",
        "arch": ["arch2", "arch1"],
        "bs": [8],
        "samples": [64],
        "seed": 3,
        "repeats": 2,
    }
    every = cells_of(Opened.of(make_study(settings)))
    rounds = rounds_of(every)
    assert [{cell.arch for cell in one} for one in rounds] == [{"arch2"}, {"arch1"}, {"arch2"}, {"arch1"}]
    assert [[cell.seed for cell in one] for one in rounds] == [[None, 3], [None, 3], [4], [4]]
    assert sorted(cell.key for one in rounds for cell in one) == sorted(cell.key for cell in every)
    assert rounds_of(cells(arch=["arch1"])) == [cells(arch=["arch1"])]


@dataclass
class Round:
    """Rows of one architecture with evidence of 2,000 images."""

    folder: Path

    def __post_init__(self) -> None:
        self.base = np.random.default_rng(0).random(2000)

    def row(self, n: int, share: float, noise: int = 0, **fields: Any) -> dict[str, Any]:
        """`share` of the images right; `noise` of them turned at random."""
        as_it_was = self.base < share
        right = as_it_was.copy()
        for kind in (True, False):  # as many right as wrong ones, so that the share stays
            turned = np.random.default_rng(n + noise).permutation(np.flatnonzero(as_it_was == kind))[
                : noise // 2
            ]
            right[turned] = not kind
        made = row("a", 8, n, 0.1, key=f"{n:08x}", metric="top1", estimator="pooled", momentum=None)
        evidence.keep(self.folder, made["key"], {"correct": right.astype(np.uint8)})
        return made | {"eval": float(right.mean())} | fields


@pytest.mark.parametrize(
    ("share", "noise", "left_out"),
    [(0.6, 0, False), (0.598, 0, False), (0.59, 0, True), (0.55, 0, True), (0.59, 900, False)],
)
def test_shown_is_beyond_tolerance_and_noise(
    tmp_path: Path, share: float, noise: int, left_out: bool
) -> None:
    """Lower by more than .003, with an interval that excludes 0; neither alone is enough."""
    made = Round(tmp_path)
    rows = [made.row(64, 0.6), made.row(128, share, noise)]
    found = worse(rows, Uncertainty(tmp_path, rows))
    assert (set(found) == {("pooled", None, 8, 128)}) is left_out
    if left_out:
        (reason,) = found.values()
        assert "below pooled, bs 8, 64 images (at least 0.0" in reason


def test_the_interval_holds_for_all_settings_at_once(tmp_path: Path) -> None:
    """A difference that a 95 % interval shows among two is not shown among sixty."""
    made = Round(tmp_path)
    pair = [made.row(64, 0.6), made.row(128, 0.585, 120)]
    many = [*pair, *(made.row(1000 + k, 0.6) for k in range(60))]
    assert ("pooled", None, 8, 128) in worse(pair, Uncertainty(tmp_path, pair))
    assert ("pooled", None, 8, 128) not in worse(many, Uncertainty(tmp_path, many))


def test_a_cold_average_is_never_the_best_and_failures_and_bare_rows_decide_nothing(tmp_path: Path) -> None:
    """Luck, a failed cell, the network as it stands and rows without evidence leave nothing out."""
    made = Round(tmp_path)
    mine = made.row(128, 0.5)
    lucky = made.row(64, 0.9, estimator="ema", momentum=0.1)
    failed = {**made.row(72, 0.9), "status": "failed", "eval": None}
    stands = made.row(80, 0.9, estimator="stored", batch_size=None)
    bare = row("a", 8, 88, 0.1, key="ffffffff", eval=0.9, estimator="pooled", momentum=None)
    rows = [mine, lucky, failed, stands, bare]
    assert worse(rows, Uncertainty(tmp_path, rows)) == {}
    assert worse([lucky], Uncertainty(tmp_path, rows)) == {}
    warm = made.row(4096, 0.9, estimator="ema", momentum=0.1)
    rows = [mine, warm]
    assert set(worse(rows, Uncertainty(tmp_path, rows))) == {("pooled", None, 8, 128)}
