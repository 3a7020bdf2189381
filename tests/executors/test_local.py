"""Several processes: the same rows as inline, and what happens when one of them dies or hangs."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnrecal.errors import BnrecalError
from bnrecal.executors.local import leases
from tests.executors import processes
from tests.executors.processes import PATIENCE_S, TINY, Hanging, figures, finish, rows, start, until

GRID = (*TINY, "--arch", "arch1,arch2", "--bs", "8", "--samples", "64,128")


@pytest.fixture
def hanging(tmp_path: Path) -> Hanging:
    return Hanging(tmp_path)


def test_two_processes_give_the_rows_of_one(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """Figures bit-identical to inline, environments alike, and no process is left."""
    assert bnrecal("sweep", *GRID, "--out", "one").code == 0
    assert bnrecal("sweep", *GRID, "-j", "2", "--out", "two").code == 0
    assert figures(tmp_path / "two") == figures(tmp_path / "one")
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert {str(row["environment"]) for row in one} == {str(row["environment"]) for row in two}
    assert not processes.workers(os.getpid())


def test_a_killed_process_loses_its_pass_to_another(tmp_path: Path) -> None:
    """kill -9 of the first worker: every cell is done in the end."""
    sweep = start("sweep", *GRID, "--executor", "local", "--out", tmp_path)
    until(lambda: processes.workers(sweep.pid))
    (first,) = processes.workers(sweep.pid)
    os.kill(first, signal.SIGKILL)
    finish(sweep)
    assert len(figures(tmp_path)) == 4


def test_a_pass_that_kills_its_processes_is_a_failed_row(tmp_path: Path, hanging: Hanging) -> None:
    """Two workers die with arch1 (killed from here): its cells failed with the reason, arch2's are done."""
    out = tmp_path / "out"
    sweep = start("sweep", *GRID, "--executor", "local", "--out", out, **hanging("deaf", "arch1"))
    for _ in range(2):
        until(lambda: processes.workers(sweep.pid))
        (worker,) = processes.workers(sweep.pid)
        os.kill(worker, signal.SIGKILL)
        until(lambda worker=worker: worker not in processes.workers(sweep.pid))
    _, err = sweep.communicate(timeout=PATIENCE_S)
    assert sweep.returncode == 3, err
    assert "2 of 4 cells failed (2 worker lost)" in err
    lost = [row for row in rows(out) if row["status"] == "failed"]
    assert {(row["arch"], row["failure"]) for row in lost} == {("arch1", "worker lost")}
    assert "2 processes ended while they ran this pass, the last by signal 9" in lost[0]["error"]
    assert {row["arch"] for row in rows(out) if row["status"] == "done"} == {"arch2"}


def test_a_hanging_process_is_ended(tmp_path: Path, hanging: Hanging) -> None:
    """Deaf to its own alarm, it is killed when its time is over; the next pass has another process.

    Both passes hang, so that no pass can be late that ought not to be; without the hang both are done.
    """
    out = tmp_path / "out"
    grid = (*TINY, "--arch", "arch1", "--bs", "4,8", "--samples", "64,128", "--out", out)
    sweep = start("sweep", *grid, "--executor", "local", "--timeout", "1", **hanging("deaf", "arch1"))
    _, err = sweep.communicate(timeout=PATIENCE_S)
    assert sweep.returncode == 3, err
    found = [(row["batch_size"], row["status"], row["failure"]) for row in rows(out)]
    assert found == [(bs, "failed", "timed out") for bs in (4, 4, 8, 8)]
    finish(start("sweep", *grid, "--executor", "local", "--retry-failed"))
    assert [row["status"] for row in rows(out)][4:] == ["done"] * 4


def test_leases_are_one_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many processes as wished on the processor; never two on one GPU (their number is set here)."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert leases("cpu", 4) == ["cpu"] * 4
    assert leases("auto", 2) == ["cuda:0", "cuda:1"]
    assert leases("cuda:2", 1) == ["cuda:2"]
    with pytest.raises(BnrecalError, match="--jobs: 4 processes for 3 GPUs"):
        leases("cuda", 4)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert leases("auto", 2) == ["cpu", "cpu"]
