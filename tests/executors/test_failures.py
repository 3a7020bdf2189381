"""What can happen to a pass: each failure is a row with its kind and reason, and the others go on."""

import contextlib
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bnrecal.networks.embedded import EmbeddedSupernet
from bnrecal.networks.network import Network
from bnrecal.store.store import Row, Store

CELLS = ("sweep", "--task", "tiny", "--arch", "arch1,arch2", "--bs", "8", "--samples", "32,64")
Change = Callable[[nn.Module], None]


@pytest.fixture
def arch1(monkeypatch: pytest.MonkeyPatch) -> Callable[[Change | None], None]:
    """Applies a change to every network built as arch1, None for none; arch2 stays sound."""
    build = EmbeddedSupernet.build
    changes: list[Change] = []

    def changed(self: EmbeddedSupernet, arch: str) -> Network:
        network = build(self, arch)
        for change in changes if arch == "arch1" else ():
            change(network.module)
        return network

    def set_change(change: Change | None) -> None:
        changes[:] = [change] if change else []

    monkeypatch.setattr(EmbeddedSupernet, "build", changed)
    return set_change


def rows_of(arch: str, folder: str = "results") -> list[Row]:
    return [row for row in Store(Path(folder)).rows() if row["arch"] == arch]


def figures(rows: list[Row]) -> list[tuple[Any, Any]]:
    return [(row["update"], row["eval"]) for row in rows]


def before_forward(hook: Callable[[nn.Module, torch.Tensor], None]) -> Change:
    """A hook on the first convolution, which folding and grouping keep."""

    def change(module: nn.Module) -> None:
        first = next(m for m in module.modules() if isinstance(m, nn.Conv2d))
        first.register_forward_pre_hook(lambda m, args: hook(module, args[0]))

    return change


@pytest.mark.parametrize(("at", "message"), [(0, "batch 0: NaN or infinity reaches"), (-1, "output .*NaN")])
def test_nan_is_a_failure_that_says_where(
    bnrecal: Callable[..., Any], arch1: Any, at: int, message: str
) -> None:
    """One NaN weight, first or last: the cells fail instead of passing for a network of mAP 0."""
    arch1(lambda module: list(module.parameters())[at].data[0].fill_(float("nan")))
    ran = bnrecal(*CELLS)
    assert ran.code == 3
    assert "2 of 4 cells failed (2 not a number)" in ran.err
    assert {(row["status"], row["failure"]) for row in rows_of("arch1")} == {("failed", "not a number")}
    assert re.search(message, rows_of("arch1")[0]["error"])
    assert {row["status"] for row in rows_of("arch2")} == {"done"}


def test_the_evaluation_batch_shrinks_when_memory_runs_out(bnrecal: Callable[..., Any], arch1: Any) -> None:
    """More than 20 images at a time raise out-of-memory: 16 are taken, the row says so, figures hold."""

    def greedy(_: nn.Module, x: torch.Tensor) -> None:
        if len(x) > 20:
            raise torch.OutOfMemoryError("tried to allocate 3 TiB")

    bnrecal(*CELLS, "--out", "plain")
    arch1(before_forward(greedy))
    assert bnrecal(*CELLS).code == 0
    assert [row["evaluation_batch"] for row in rows_of("arch1")] == [16, 16]
    assert [row["evaluation_batch"] for row in rows_of("arch2")] == [64, 64]
    for now, before in zip(figures(rows_of("arch1")), figures(rows_of("arch1", "plain")), strict=True):
        assert now == pytest.approx(before, abs=1e-6)


@pytest.mark.parametrize(
    "error",
    [MemoryError("host"), torch.OutOfMemoryError("GPU"), RuntimeError("you tried: can't allocate memory")],
    ids=lambda error: type(error).__name__,
)
def test_the_calibration_batch_never_shrinks(
    bnrecal: Callable[..., Any], arch1: Any, error: Exception
) -> None:
    """No memory for a batch of the update pass: a failed row of that batch size, nothing smaller tried."""
    seen = []

    def greedy(_: nn.Module, x: torch.Tensor) -> None:
        seen.append(len(x))
        raise error

    arch1(before_forward(greedy))
    ran = bnrecal(*CELLS)
    assert "2 of 4 cells failed (2 out of memory)" in ran.err
    assert seen == [8]
    assert {(row["failure"], row["batch_size"]) for row in rows_of("arch1")} == {("out of memory", 8)}
    assert str(error) in rows_of("arch1")[0]["error"]


def test_a_pass_out_of_time_keeps_the_cells_it_finished(bnrecal: Callable[..., Any], arch1: Any) -> None:
    """Asleep after its first cell: that one is done, the other timed out, the next pass is untouched.

    The time is long enough for any machine; the sleeper's own alarm is set to ring at once.
    """

    def slow(_: nn.Module, x: torch.Tensor) -> None:
        if Path("results/rows.jsonl").read_bytes().count(b"arch1"):
            assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            time.sleep(600)

    arch1(before_forward(slow))
    ran = bnrecal(*CELLS, "--timeout", "600")
    assert ran.code == 3
    assert [(row["status"], row["failure"]) for row in rows_of("arch1")] == [
        ("done", None),
        ("failed", "timed out"),
    ]
    assert rows_of("arch1")[1]["error"] == "the pass took longer than 600 s (--timeout)"
    assert {row["status"] for row in rows_of("arch2")} == {"done"}


def test_swallowed_alarms_are_caught_between_batches(bnrecal: Callable[..., Any], arch1: Any) -> None:
    """A network that catches everything cannot outlive its time for longer than a chunk of batches."""

    def deaf(_: nn.Module, x: torch.Tensor) -> None:
        with contextlib.suppress(BaseException):
            time.sleep(0.2)

    arch1(before_forward(deaf))
    bnrecal(*CELLS, "--only", "arch=arch1", "--timeout", "0.5")
    assert {row["failure"] for row in rows_of("arch1")} == {"timed out"}


def broken(_: nn.Module, x: torch.Tensor) -> None:
    raise RuntimeError("broken on purpose")


def test_stopping_at_failures(bnrecal: Callable[..., Any], arch1: Any) -> None:
    """--fail-fast stops at the first failed cell, --max-failures 2 at the second; the rest stays open."""
    arch1(before_forward(broken))
    assert bnrecal(*CELLS, "--fail-fast", "--out", "fast").code == 3
    assert len(Store(Path("fast")).rows()) == 1
    ran = bnrecal(*CELLS, "--max-failures", "2")
    assert ran.code == 3
    assert "stopped after 2 failures" in ran.err
    assert [row["arch"] for row in Store(Path("results")).rows()] == ["arch1", "arch1"]


def test_failed_cells_are_done_again_when_asked_for(bnrecal: Callable[..., Any], arch1: Any) -> None:
    """The same command leaves them and says so; --retry-failed, as printed, does them and nothing else."""
    arch1(before_forward(broken))
    bnrecal(*CELLS, "--limit", "3")
    arch1(None)
    n_before = len(Store(Path("results")).rows())
    printed = bnrecal(*CELLS, "--only", "arch=arch1").err
    assert "2 of 2 cells failed; these alone again: bnrecal sweep" in printed
    assert len(Store(Path("results")).rows()) == n_before == 3
    again = printed.partition("bnrecal sweep ")[2].split()
    assert bnrecal("sweep", *again).code == 0
    assert [row["status"] for row in rows_of("arch1")] == ["failed", "failed", "done", "done"]
    assert len(rows_of("arch2")) == 1
    assert "all 2 cells are done" in bnrecal(*CELLS, "--only", "arch=arch1", "--retry-failed").err


def test_forced_cells_replace_their_rows(bnrecal: Callable[..., Any]) -> None:
    """--force does finished cells again; each key has one row, the old ones lie beside."""
    bnrecal(*CELLS)
    before = Store(Path("results")).rows()
    assert bnrecal(*CELLS, "--force", "--only", "arch=arch2").code == 0
    after = Store(Path("results")).rows()
    assert sorted(row["key"] for row in after) == sorted(row["key"] for row in before)
    assert [row["started_at"] for row in after[:2]] == [row["started_at"] for row in before[:2]]
    assert figures(after[2:]) == figures(before[2:])
    assert Path("results/rows.jsonl.replaced").read_bytes().count(b"\n") == 2


@pytest.mark.parametrize(
    ("options", "n"),
    [
        (("--only", "arch=arch1"), 2),
        (("--only", "arch=arch1,arch2", "--exclude", "samples=32"), 2),
        (("--only", "momentum=0.1", "--only", "n_samples=64"), 2),
        (("--exclude", "bs=8"), 0),
        (("--only", "bs=16"), 0),
        (("--only", "momentum=none"), 0),
    ],
)
def test_only_and_exclude_choose_cells(bnrecal: Callable[..., Any], options: tuple[str, ...], n: int) -> None:
    """All --only and no --exclude must hold; values are those of a row, or of the option's name."""
    ran = bnrecal(*CELLS, "--dry-run", *options)
    if n:
        assert f"{n} of 4 cells to do" in ran.out
    else:
        assert (ran.code, "they leave none of the study's 4 cells" in ran.err) == (2, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--only", "arch"), "--only: 'arch'; allowed: name=value"),
        (("--exclude", "color=red"), "--exclude: unknown field 'color'; valid: key, task"),
        (("--executor", "slurm"), "--executor: unknown executor 'slurm'; valid: inline, local, ray"),
        (("--executor", "inline", "-j", "2"), "--jobs: 2: executor inline"),
        (("--address", "auto"), "--address: 'auto': executor inline has none; use --executor ray"),
        (("--timeout", "0"), "--timeout"),
        (("--threads", "0"), "--threads"),
        (("--max-failures", "0"), "--max-failures"),
    ],
)
def test_bad_choices_are_one_line(
    bnrecal: Callable[..., Any], options: tuple[str, ...], message: str
) -> None:
    """Exit code 2, value, place and what is allowed; nothing is written."""
    ran = bnrecal(*CELLS, *options)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert message in ran.err
    assert list(Path().iterdir()) == []
