"""SIGINT, SIGTERM and SIGKILL in mid-pass: how soon a sweep ends, and what it leaves."""

import os
import signal
import time
from pathlib import Path

import pytest

from bnrecal.host.interrupts import Stopped, heeded, shielded
from tests.executors import processes
from tests.executors.processes import TINY, figures, finish, start, until
from tests.executors.test_local import hanging  # noqa: F401

LONG = (*TINY, "--bs", "2", "--samples", "256", "--estimator", "exact")  # passes of several seconds


@pytest.mark.parametrize(("executor", "sent"), [("inline", signal.SIGTERM), ("local", signal.SIGINT)])
def test_a_long_pass_is_left_within_5_s(tmp_path: Path, executor: str, sent: int) -> None:
    """In the middle of it: exit code, one line, no process left, and nothing of the store is locked."""
    out = tmp_path / "out"
    sweep = start("sweep", *LONG, "--executor", executor, "--out", out)
    until(lambda: (out / "claims").is_dir())
    workers = processes.workers(sweep.pid)
    time.sleep(0.5)
    started = time.monotonic()
    sweep.send_signal(sent)
    _, err = sweep.communicate(timeout=20)
    assert time.monotonic() - started < 5
    assert sweep.returncode == 128 + sent
    assert err.endswith("bnrecal: interrupted; finished cells are kept, the same command does the rest\n")
    assert "Traceback" not in err
    until(lambda: not any(processes.is_alive(worker) for worker in workers), 5)
    assert not (out / "claims").exists()


def test_foreign_code_that_hears_nothing_is_left_too(tmp_path: Path, hanging: dict[str, str]) -> None:  # noqa: F811
    """Minutes inside one call: the process ends all the same within 5 s, with the code of the signal."""
    out = tmp_path / "out"
    sweep = start("sweep", *TINY, "--arch", "arch1", "--bs", "8", "--samples", "64", "--out", out, **hanging)
    until(lambda: (out / "claims").is_dir())
    time.sleep(1)
    started = time.monotonic()
    sweep.send_signal(signal.SIGTERM)
    _, err = sweep.communicate(timeout=20)
    assert time.monotonic() - started < 5.5
    assert sweep.returncode == 143
    assert "interrupted in mid-pass" in err


def test_workers_end_with_a_killed_sweep(tmp_path: Path) -> None:
    """SIGKILL gives it no time to say goodbye; its processes notice."""
    sweep = start("sweep", *LONG, "-j", "2", "--out", tmp_path)
    until(lambda: len(processes.workers(sweep.pid)) == 2)
    workers = processes.workers(sweep.pid)
    sweep.kill()
    sweep.communicate()
    until(lambda: not any(processes.is_alive(worker) for worker in workers), 10)


def test_a_signal_waits_for_a_row() -> None:
    """Inside a shield nothing is raised; at its end it is, and a second signal changes nothing."""
    at = []
    before = signal.getsignal(signal.SIGINT)  # a background shell hands it down ignored

    def write() -> None:
        with shielded():
            os.kill(os.getpid(), signal.SIGTERM)
            at.append("written")
        at.append("never")

    with pytest.raises(Stopped) as stopped, heeded():
        write()
    assert at == ["written"]
    assert stopped.value.code == 143
    assert signal.getsignal(signal.SIGINT) is before


def test_two_sweeps_share_a_store(tmp_path: Path) -> None:
    """Started together on the same cells: each cell once, both end well, neither did all."""
    grid = (*TINY, "--arch", "arch1,arch2,arch3", "--bs", "4,8", "--samples", "64,128,256")
    both = [start("sweep", *grid, "--out", tmp_path) for _ in range(2)]
    said = [finish(process) for process in both]
    assert len(figures(tmp_path)) == 18
    done_by = [err.count(" eval ") for err in said]
    assert sum(done_by) == 18
    assert min(done_by) > 0
    assert not (tmp_path / "claims").exists()


def test_cells_of_a_killed_sweep_are_taken_over(tmp_path: Path) -> None:
    """One sweep waits for the other's last pass; that one is killed, and the first does the pass."""
    grid = (*TINY, "--arch", "arch1", "--bs", "2", "--samples", "256", "--estimator", "exact")
    first = start("sweep", *grid, "--out", tmp_path)
    until(lambda: (tmp_path / "claims").is_dir())
    second = start("sweep", *grid, "--out", tmp_path)
    assert second.stderr is not None
    while "waiting for it" not in second.stderr.readline():
        assert second.poll() is None
    first.kill()
    first.communicate()
    finish(second)
    assert len(figures(tmp_path)) == 1
