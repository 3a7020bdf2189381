"""SIGINT, SIGTERM and SIGKILL in mid-pass: how soon a sweep ends, and what it leaves."""

import functools
import multiprocessing
import operator
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bnrecal.host.interrupts import SIGNALS, Stopped, heeded, shielded, starting_processes
from tests.executors import processes
from tests.executors.processes import TINY, Hanging, figures, finish, start, until

GRID = (*TINY, "--arch", "arch1,arch2", "--bs", "8", "--samples", "64")
LEFT_S = 60.0  # GRACE_S of interrupts.py, and what a busy machine may take to end a process


@pytest.fixture
def hanging(tmp_path: Path) -> Hanging:
    return Hanging(tmp_path)


@pytest.mark.parametrize(("executor", "sent"), [("inline", signal.SIGTERM), ("local", signal.SIGINT)])
def test_an_endless_pass_is_left(tmp_path: Path, hanging: Hanging, executor: str, sent: int) -> None:
    """In the middle of it: exit code, one line, no process left, and nothing of the store is locked."""
    out = tmp_path / "out"
    endless = hanging("endless", "arch1", "arch2")
    sweep = start("sweep", *GRID, "--executor", executor, "--out", out, **endless)
    until(hanging.begun)
    workers = processes.workers(sweep.pid)
    sweep.send_signal(sent)
    _, err = sweep.communicate(timeout=LEFT_S)
    assert sweep.returncode == 128 + sent
    assert err.endswith("bnrecal: interrupted; finished cells are kept, the same command does the rest\n")
    assert "Traceback" not in err
    until(lambda: not any(processes.is_alive(worker) for worker in workers))
    assert not (out / "claims").exists()


def signals(pid: int | None, *kinds: str) -> int:
    """Those in a process' masks of these kinds (SigBlk: blocked, SigCgt: has a handler), a bit each."""
    status = Path(f"/proc/{pid}/status").read_text()
    masks = dict(re.findall(r"(Sig\w+):\s*(\w+)", status))
    return functools.reduce(operator.or_, (int(masks[kind], 16) for kind in kinds))


def bit(signum: int) -> int:
    return 1 << signum - 1


def test_ctrl_c_while_processes_start_is_one_line(tmp_path: Path) -> None:
    """A terminal sends it to the processes of a sweep too, here before they know what they are for."""
    sweep = start("sweep", *GRID, "-j", 2, "--out", tmp_path / "out")
    until(lambda: processes.workers(sweep.pid))
    workers = processes.workers(sweep.pid)
    # Python has started there: from now on a signal that is not blocked becomes an exception.
    until(lambda: signals(workers[0], "SigBlk", "SigCgt") & bit(signal.SIGINT))
    for pid in (*workers, sweep.pid):
        os.kill(pid, signal.SIGINT)
    _, err = sweep.communicate(timeout=LEFT_S)
    assert sweep.returncode == 130
    planned, *lines = err.splitlines()
    assert planned.startswith("2 cells in 2 passes")
    assert lines == ["bnrecal: interrupted; finished cells are kept, the same command does the rest"]
    until(lambda: not any(processes.is_alive(worker) for worker in workers))


def test_processes_are_started_whole(tmp_path: Path) -> None:
    """A signal that comes meanwhile, to whatever thread, is heeded afterwards; the processes block it."""
    left = tmp_path / "left"
    process = multiprocessing.get_context("spawn").Process(target=left.touch)
    blocked = []

    def start_under_fire() -> None:
        with heeded():
            with starting_processes():
                os.kill(os.getpid(), signal.SIGINT)  # blocked here: it comes to the thread that watches
                time.sleep(0.1)  # and after this the interpreter would raise it here
                process.start()
                blocked.append(signals(process.pid, "SigBlk"))
            pytest.fail("the signal was lost")

    with pytest.raises(Stopped):
        start_under_fire()
    process.join()
    assert left.exists()
    assert all(blocked[0] & bit(signum) for signum in SIGNALS)


def test_a_command_without_cells_speaks_of_none(
    bnrecal: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`recalibrate`, interrupted by a real signal while it builds its network."""
    (tmp_path / "signals.py").write_text(
        "import os, signal\ndef network(n_classes):\n    os.kill(os.getpid(), signal.SIGINT)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for k in range(8):
        folder = tmp_path / "images" / str(k % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 30 * k).save(folder / f"{k}.png")
    images = ("--task", "imagefolder", "--calibration", "images", "--evaluation", "images", "--channels", 1)
    ran = bnrecal(
        "recalibrate", *images, "--model", "signals:network", "--image-size", 8, "-o", "n.safetensors"
    )
    assert ran.code == 130
    assert ran.err.splitlines()[-1] == "bnrecal: interrupted"


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        (("sweep", *GRID, "--out", "{tmp}/out"), "; finished cells are kept, the same command does the rest"),
        (("doctor", "--task", "tiny", "--arch", "arch1"), ""),
    ],
)
def test_foreign_code_that_hears_nothing_is_left_too(
    tmp_path: Path, hanging: Hanging, command: tuple[str, ...], kept: str
) -> None:
    """Long inside one call: the process ends all the same, with the signal's code and what is kept."""
    words = (word.format(tmp=tmp_path) for word in command)
    running = start(*words, **hanging("deaf", "arch1", "arch2"))
    until(hanging.begun)
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=LEFT_S)
    assert running.returncode == 143
    assert err.endswith(f"bnrecal: interrupted in mid-pass{kept}\n")


def test_workers_end_with_a_killed_sweep(tmp_path: Path, hanging: Hanging) -> None:
    """SIGKILL gives it no time to say goodbye; its processes notice."""
    endless = hanging("endless", "arch1", "arch2")
    sweep = start("sweep", *GRID, "-j", "2", "--out", tmp_path / "out", **endless)
    until(lambda: len(processes.workers(sweep.pid)) == 2)
    workers = processes.workers(sweep.pid)
    sweep.kill()
    sweep.communicate()
    until(lambda: not any(processes.is_alive(worker) for worker in workers))


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


def test_two_sweeps_share_a_store(tmp_path: Path, hanging: Hanging) -> None:
    """On the same cells, neither ahead of the other: each cell once, both end well, neither did all."""
    grid = (*TINY, "--arch", "arch1,arch2,arch3", "--bs", "4,8", "--samples", "64,128,256")
    out, meeting = tmp_path / "out", hanging("meeting", "arch1", "arch2", "arch3")
    both = [start("sweep", *grid, "--out", out, **meeting) for _ in range(2)]
    said = [finish(process) for process in both]
    n_cells = len(figures(out))
    done_by = [err.count(" eval ") for err in said]
    assert sum(done_by) == n_cells >= 18
    assert min(done_by) > 0
    assert not (out / "claims").exists()


def test_cells_of_a_killed_sweep_are_taken_over(tmp_path: Path, hanging: Hanging) -> None:
    """One sweep waits for another's last pass; that one, endless, is killed, and the first does the pass."""
    grid = (*TINY, "--arch", "arch1", "--bs", "8", "--samples", "64", "--no-baseline")
    out = tmp_path / "out"
    first = start("sweep", *grid, "--out", out, **hanging("endless", "arch1"))
    until(hanging.begun)
    second = start("sweep", *grid, "--out", out)
    assert second.stderr is not None
    while "waiting for it" not in second.stderr.readline():
        assert second.poll() is None
    first.kill()
    first.communicate()
    finish(second)
    assert len(figures(out)) == 1
