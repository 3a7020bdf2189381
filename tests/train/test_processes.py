"""`bnrecal train --processes N` and torchrun, as commands: one writer, one line for a failure, none left."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.executors.processes import PATIENCE_S, children, is_alive, until, workers
from tests.train.test_together import largest_difference
from tests.train.together import write_place

RECIPE = "batch_size = 16\nlr = 0.1\nepochs = {epochs}\n"
PLACES = (
    *("--task", "imagefolder", "--image-size", 12),
    *("--calibration", "images/train", "--evaluation", "images/val"),
)
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `bnrecal train` in a folder with images and networks; what is left of it is ended."""
    write_place(tmp_path)
    running = []

    def started(
        *more: object, network: str = "net", epochs: int = 1, launcher: tuple[str, ...] = ()
    ) -> object:
        (tmp_path / f"{epochs}.toml").write_text(RECIPE.format(epochs=epochs))
        words = [
            "-m",
            "bnrecal",
            "train",
            f"{epochs}.toml",
            *PLACES,
            "--model",
            f"together_nets:{network}",
            *more,
        ]
        path = os.pathsep.join([str(tmp_path), *(p for p in sys.path if p)])
        running.append(
            subprocess.Popen(
                [sys.executable, *launcher, *map(str, words)],
                cwd=tmp_path,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
                stderr=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,  # a signal to its group is Ctrl-C at its terminal
            )
        )
        return running[-1]

    yield started
    for process in running:
        if process.poll() is None:
            for pid in (*children(process.pid), process.pid):  # torchrun's have sessions of their own
                os.kill(pid, signal.SIGKILL)
            process.communicate()


def ended(process: "subprocess.Popen[str]") -> tuple[int, list[str]]:
    """Exit code and what bnrecal said, its progress left out."""
    _, err = process.communicate(timeout=PATIENCE_S)
    lines = [line for line in err.splitlines() if not re.match(r"epoch \d|\d+ of \d+ epochs", line)]
    return process.returncode, lines


def test_one_command_and_torchrun_train_one_network(start: Start, tmp_path: Path) -> None:
    """Two processes by either way leave the same bytes, one process the same network; stdout has one line."""
    assert ended(start("--out", "one")) == (0, [])
    two = start("--out", "two", "--processes", 2)
    out = two.communicate(timeout=PATIENCE_S)[0]
    assert two.returncode == 0
    assert out.count("weights.safetensors") == 1
    torchrun = start("--out", "run", launcher=TORCHRUN)
    out = torchrun.communicate(timeout=PATIENCE_S)[0]
    assert torchrun.returncode == 0
    assert out.count("weights.safetensors") == 1
    assert largest_difference(tmp_path / "one", tmp_path / "two") < 1e-5
    weights = [(tmp_path / way / "weights.safetensors").read_bytes() for way in ("two", "run")]
    assert weights[0] == weights[1]
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == sorted(
        p.name for p in (tmp_path / "one").iterdir()
    )


@pytest.mark.parametrize(
    ("network", "code", "says"),
    [
        ("raises", 1, r"a bug in bnrecal: ProcessError: process 1 of 2: KeyError: 'of the second process'"),
        (
            "drifts",
            2,
            r"seen: has come to differ between the 2 processes: the network keeps something of its",
        ),
        ("unused", 2, r"--model: some weights of the network take no part in its output, which several"),
    ],
)
def test_a_process_that_fails_ends_all_with_one_line(
    start: Start, network: str, code: int, says: str
) -> None:
    """What the failing one says, and no traceback, whoever noticed it first."""
    found, lines = ended(start("--out", "out", "--processes", 2, network=network))
    assert found == code, lines
    assert len(lines) == 1, lines
    assert lines[0].startswith("bnrecal: ")
    assert re.search(says, lines[0]), lines


def test_a_process_that_hangs_ends_all(start: Start) -> None:
    """After --process-timeout the others give up, with one line."""
    code, lines = ended(start("--out", "out", "--processes", 2, "--process-timeout", 5, network="hangs"))
    assert code == 2
    assert len(lines) == 1, lines
    assert "lost the others: one has ended, or did not answer for 5 s" in lines[0]


def test_a_killed_process_ends_all_and_the_same_command_goes_on(start: Start, tmp_path: Path) -> None:
    """SIGKILL to one of two in mid-training: one line that names it, the other one gone; then the bytes of
    an undisturbed training."""
    process = start("--out", "killed", "--processes", 2, epochs=60)
    until(lambda: (tmp_path / "killed" / "checkpoint").exists())
    ranks = workers(process.pid)
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    code, lines = ended(process)
    assert (code, len(lines)) == (2, 1), lines
    assert re.search(r"process \d of 2 was ended by signal 9; the same command goes on", lines[0])
    until(lambda: not any(map(is_alive, ranks)))
    assert ended(start("--out", "killed", "--processes", 2, epochs=60)) == (0, [])
    assert ended(start("--out", "whole", "--processes", 2, epochs=60)) == (0, [])
    killed, whole = ((tmp_path / out / "weights.safetensors").read_bytes() for out in ("killed", "whole"))
    assert killed == whole


@pytest.mark.parametrize("when", ["starting", "training"])
def test_an_interrupt_is_one_line(start: Start, tmp_path: Path, when: str) -> None:
    """Ctrl-C reaches every process of the terminal, at whatever moment: 130, one line, nobody left."""
    process = start("--out", "out", "--processes", 2, epochs=2000)
    until(lambda: len(workers(process.pid)) == 2)
    ranks = workers(process.pid)
    if when == "training":
        until(lambda: (tmp_path / "out" / "checkpoint").exists())
    os.killpg(process.pid, signal.SIGINT)
    code, lines = ended(process)
    assert code == 130, lines
    assert len(lines) == 1, lines
    assert "interrupted" in lines[0]
    until(lambda: not any(map(is_alive, ranks)))


def test_nobody_is_left_when_the_watcher_is_killed(start: Start, tmp_path: Path) -> None:
    """SIGKILL to the command itself: its processes end."""
    process = start("--out", "out", "--processes", 2, epochs=2000)
    until(lambda: (tmp_path / "out" / "checkpoint").exists())
    ranks = workers(process.pid)
    process.kill()
    process.communicate()
    started = time.monotonic()
    until(lambda: not any(map(is_alive, ranks)))
    assert time.monotonic() - started < PATIENCE_S


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--processes", 17), "--processes: 17, but a forward has 16 images; use at most 16"),
        (("--processes", 0), "--processes"),
        (("--processes", 2, "--device", "cuda"), "--device: 'cuda': no CUDA device here"),
        (("--processes", 2, "--model", "torchvision:nothing"), "torchvision has no classifier 'nothing'"),
    ],
)
def test_what_all_refuse_is_said_once(start: Start, more: tuple[object, ...], says: str) -> None:
    """Bad input of any kind is one line and exit code 2; what needs no images is seen before any starts."""
    code, lines = ended(start("--out", "out", *more))
    assert code == 2
    assert len(lines) == 1, lines
    assert says in lines[0]


def test_torchrun_has_one_line_of_ours(start: Start) -> None:
    """Where both processes refuse, one speaks; torchrun says more."""
    code, lines = ended(start("--out", "out", "--processes", 2, launcher=TORCHRUN))
    assert code
    ours = [line for line in lines if line.startswith("bnrecal: ")]
    assert set(ours) == {"bnrecal: --processes: 2, under torchrun, which starts them; leave it out"}
    code, lines = ended(start("--out", "out", network="drifts", launcher=TORCHRUN))
    assert code
    ours = [line for line in lines if line.startswith("bnrecal: ")]
    assert len(ours) == 1, lines
    assert "seen: has come to differ" in ours[0]
