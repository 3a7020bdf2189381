"""Training in a process of its own: killed at any moment, and a disk that is full."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.own_images import write_class_folders

RECIPE = "batch_size = 8\nepochs = 40\naugment = 'crop-flip'\nclip_norm = 5.0\nseed = 1\n"
NETWORK = """
from torch import nn
def net():
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
"""
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from bnrecal.cli import main
main()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_class_folders(tmp_path / "images", n=24, size=16)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "killed_net.py").write_text(NETWORK)
    return tmp_path


def started(folder: Path, out: str, *before: str) -> subprocess.Popen[str]:
    places = ["--calibration", "images/train", "--evaluation", "images/val", "--image-size", "16"]
    words = [
        "train",
        "recipe.toml",
        "--out",
        out,
        "--task",
        "imagefolder",
        *places,
        "--model",
        "killed_net:net",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, *(before or ("-m", "bnrecal")), *words]
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    err = process.communicate(timeout=300)[1]
    return process.returncode, err


def test_killed_at_random_moments_ends_in_the_same_file(folder: Path) -> None:
    """SIGKILL five times, each some moments after the checkpoint of another epoch appeared, then left alone:
    weights byte for byte those of an undisturbed process, losses too, and no part files are left.
    """
    assert ended(started(folder, "whole"))[0] == 0
    drawn = random.Random(0)
    kills = 0
    for _ in range(5):
        process = started(folder, "killed")
        checkpoint = folder / "killed" / "checkpoint"
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while process.poll() is None:
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
                break
            time.sleep(0.002)
        time.sleep(drawn.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        kills += ended(process)[0] == -signal.SIGKILL
    code, err = ended(started(folder, "killed"))
    assert code == 0, err
    assert kills >= 1
    for name in ("weights.safetensors", "recipe.toml"):
        assert (folder / "killed" / name).read_bytes() == (folder / "whole" / name).read_bytes()
    assert losses(folder / "killed") == losses(folder / "whole")
    left = {path.name for path in (folder / "killed").iterdir() if not path.name.endswith(".part")}
    assert left == {"log.jsonl", "recipe.toml", "weights.safetensors"}


def test_a_full_disk_is_one_line_and_the_old_checkpoint_stands(folder: Path) -> None:
    """No file may exceed 3,000 bytes, which a checkpoint does: exit code 2 and one line, no checkpoint and no
    part of one; where there was one before it is untouched, and training goes on from it.
    """
    assert ended(started(folder, "whole"))[0] == 0  # images are decoded now
    code, err = ended(started(folder, "full", "-c", LIMITED, "3000"))
    said = [line for line in err.splitlines() if not line.startswith("epoch ")]
    assert (code, said) == (2, ["bnrecal: full: cannot be written: File too large"])
    assert sorted(path.name for path in (folder / "full").iterdir()) == ["log.jsonl"]
    process = started(folder, "full")
    while not (folder / "full" / "checkpoint").exists():
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    ended(process)
    if (folder / "full" / "checkpoint").exists():
        before = (folder / "full" / "checkpoint").read_bytes()
        assert ended(started(folder, "full", "-c", LIMITED, "3000"))[0] == 2
        assert (folder / "full" / "checkpoint").read_bytes() == before
    assert ended(started(folder, "full"))[0] == 0
    weights = "weights.safetensors"
    assert (folder / "full" / weights).read_bytes() == (folder / "whole" / weights).read_bytes()


def losses(folder: Path) -> list[float]:
    import json

    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]
