"""A study that trains: two recipes of a small network on two classes that differ by brightness."""

import random
import subprocess
from pathlib import Path
from typing import Any

from bnrecal.store.rows import is_evaluated
from bnrecal.store.store import Store
from tests.executors.processes import finish, start
from tests.own_images import write_class_folders

MODULE = """
from torch import nn

def net():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.2),
        nn.Conv2d(6, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2),
    )
"""
STUDY = """
task = "imagefolder"
calibration = "set/train"
evaluation = "set/val"
image_size = 12
model = "learnt:net"
bs = [8]
samples = [16, 32]
estimator = ["stored", "pooled"]

[train]
norm_batch = [4, 8]
batch_size = 8
epochs = 3
augment = "flip"
"""
SWEEP = ("sweep", "--study", "study.toml", "--threads", "1")


def write_study(folder: Path, study: str = STUDY) -> None:
    write_class_folders(folder / "set", n=20, size=12)
    (folder / "learnt.py").write_text(MODULE)
    (folder / "study.toml").write_text(study)


def what_came_out(out: Path) -> dict[str, Any]:
    """By key: figures of evaluated cells, losses and weights of trainings; every cell done, and once."""
    rows = Store(out).rows()
    found = {}
    for row in rows:
        assert row["status"] == "done", row["error"]
        names = ("update", "eval") if is_evaluated(row) else ("loss", "weights_sha256")
        found[row["key"]] = tuple(row[name] for name in names)
        if not is_evaluated(row):
            found[row["key"]] += ((out / "trained" / row["key"] / "weights.safetensors").read_bytes(),)
    assert len(found) == len(rows)
    return found


def kill_and_resume(
    folder: Path, n_kills: int, seed: int, wanted: dict[str, Any], within_s: float, *options: str
) -> tuple[int, list[str]]:
    """SIGKILL at random moments of `within_s`, about what a sweep takes undisturbed.

    Gives how many met a running sweep (`n_kills` at least) and what was wrong.
    """
    rng = random.Random(seed)
    wrong, n, n_sweeps = [], 0, 0
    while n < n_kills:
        out = folder / f"sweep-{n_sweeps}"
        n_sweeps += 1
        for _ in range(4):  # then it may end
            sweep = start(*SWEEP, *options, "--out", out)
            try:
                sweep.communicate(timeout=rng.uniform(0, within_s))
            except subprocess.TimeoutExpired:
                sweep.kill()
                sweep.communicate()
                n += 1
            if n >= n_kills:
                break
        finish(start(*SWEEP, *options, "--out", out))
        if what_came_out(out) != wanted:
            wrong.append(f"{out}: other rows or weights")
    return n, wrong
