"""Several GPUs: a device for each process of `-j`, and one batch over all processes of a training.

The sweep is the small built-in one, in as many processes as there are GPUs (two on the processor): every
cell done, and more than one GPU used. Trainings run in one process and in as many: the same weights to 1e-5,
or to 1e-2 on GPUs, where convolutions round otherwise. With one GPU both run with one process, and say so.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from place import Place
from safetensors.torch import load_file

RECIPE = 'epochs = 1\nbatch_size = 64\nlr = 0.001\nsampling = "uniform"\n'
LIMITS = {"cpu": 1e-5, "cuda": 1e-2}
LIMIT_S = 240.0


def bnrecal(folder: Path, *words: object) -> None:
    """Run the command; raises RuntimeError with its last line where it fails."""
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-m", "bnrecal", *map(str, words)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])


def leased(folder: Path, device: str, n: int) -> list[str]:
    """The devices that the rows of a sweep in n processes name; raises where a cell is not done."""
    bnrecal(folder, "sweep", "--task", "tiny", "--device", device, "-j", n, "--out", "swept")
    rows = [json.loads(line) for line in (folder / "swept/rows.jsonl").read_text().splitlines()]
    if any(row["status"] != "done" for row in rows):
        raise RuntimeError("a cell failed")
    return sorted({row["device"] for row in rows})


def largest_difference(folder: Path, device: str, n: int) -> float:
    (folder / "recipe.toml").write_text(RECIPE)
    for k in (1, n):
        words = ("train", "recipe.toml", "--task", "tiny", "--device", device, "--processes", k)
        bnrecal(folder, *words, "--out", f"trained-{k}")
    one, several = (load_file(folder / f"trained-{k}/weights.safetensors") for k in (1, n))
    names = [name for name in one if name.endswith("weight")]
    return max(float((one[k] - several[k]).abs().max()) for k in names)


def measure(place: Place) -> dict[str, Any]:
    kind = place.device.type
    n = torch.cuda.device_count() if kind == "cuda" else 2
    with tempfile.TemporaryDirectory() as name:
        devices = leased(Path(name), kind, n)
        apart = largest_difference(Path(name), kind, n)
    wanted = min(n, 2) if kind == "cuda" else 1  # a quick sweep may end before the last has begun
    return {
        "processes": n,
        "devices": devices,
        "weights_apart": apart,
        "passed": len(devices) >= wanted and apart <= LIMITS[kind],
    }
