"""The published grid by bnrecal beside the same study from public parts (plain_study.py).

    python experiments/bench/grid.py [batch sizes, comma list]

Batch size by batch size, first the plain cells, then `bnrecal sweep` as a process of its own, start-up
included, so that a drifting machine treats both alike. Prints the ratio, the largest difference of any
figure, and where bnrecal's time goes beside the time of the convolutions alone.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from plain_study import Clock, run_cell
from torch import Tensor, nn

from bnrecal import networks, tasks
from bnrecal.study.study import make_study
from bnrecal.tasks.garments import Garments

STUDY = make_study({})
Figures = dict[tuple[int, int, str], tuple[float, float]]


def plainly(batch_size: int, x: Tensor, held_out: Tensor, task: Garments, clock: Clock) -> Figures:
    found: Figures = {}
    for n in STUDY.samples:
        for arch in STUDY.arch:
            found[batch_size, n, arch] = run_cell(arch, batch_size, n, x, held_out, task, clock)
    return found


def by_bnrecal(batch_size: int, folder: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "bnrecal", "sweep", "--bs", str(batch_size), "--out", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


@torch.inference_mode()
def convolutions_s(batch_size: int, n_val: int) -> float:
    """Seconds of the convolutions alone in what this batch size's three passes must compute.

    The update pass at its batch size, the predictions of the update metric and the evaluations at 64;
    everything but convolutions is taken out of the networks.
    """
    total = 0.0
    for arch in STUDY.arch:
        model = networks.get().build(arch).module.to(memory_format=torch.channels_last)
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.BatchNorm2d | nn.ReLU):
                    setattr(parent, name, nn.Identity())
        for module in model.modules():
            if hasattr(module, "operation"):
                module.forward = module.operation.forward
        n = max(STUDY.samples)
        for size, images in ((batch_size, n), (64, n), (64, n_val * len(STUDY.samples))):
            batch = torch.randn(size, 1, 64, 64).to(memory_format=torch.channels_last)
            for _ in range(3):
                model(batch)
            started = time.perf_counter()
            repeats = max(1, images // size // 8)  # an eighth of the work, scaled up
            for _ in range(repeats):
                model(batch)
            total += (time.perf_counter() - started) / repeats * (images / size)
    return total


def line(name: str, plain_s: float, ours_s: float, conv_s: float, gap: float) -> str:
    return f"{name:>4}{plain_s:>10.1f}{ours_s:>11.1f}{plain_s / ours_s:>8.2f}{conv_s:>16.1f}{gap:>13.1e}"


def main(batch_sizes: list[int]) -> None:
    task = tasks.get("garments")
    assert isinstance(task, Garments)

    def tensor(images: Any) -> Tensor:
        return task.to_input(torch.from_numpy(images)).to(memory_format=torch.channels_last)

    x = tensor(task.calibration_images(task.order(0)[: max(STUDY.samples)]))
    held_out = tensor(task.evaluation_images(0, task.n_evaluation))
    clock, worst = Clock(), 0.0
    plain_s = ours_s = conv_s = 0.0
    print(f"{'bs':>4}{'plain s':>10}{'bnrecal s':>11}{'ratio':>8}{'convolutions s':>16}{'largest gap':>13}")
    parts = {"update pass": 0.0, "update metric": 0.0, "evaluation": 0.0}
    for batch_size in batch_sizes:
        t0 = time.perf_counter()
        expected = plainly(batch_size, x, held_out, task, clock)
        t1 = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            rows = by_bnrecal(batch_size, Path(folder))
        t2 = time.perf_counter()
        found = {(r["batch_size"], r["n_samples"], r["arch"]): (r["update"], r["eval"]) for r in rows}
        gap = max(abs(a - b) for key in expected for a, b in zip(expected[key], found[key], strict=True))
        conv = convolutions_s(batch_size, task.n_evaluation)
        print(line(str(batch_size), t1 - t0, t2 - t1, conv, gap), flush=True)
        plain_s, ours_s, conv_s = plain_s + t1 - t0, ours_s + t2 - t1, conv_s + conv
        worst = max(worst, gap)
        for row in rows:
            parts["evaluation"] += row["eval_s"]
            if row["n_samples"] == max(STUDY.samples):
                parts["update pass"] += row["recal_s"]
                parts["update metric"] += row["update_s"]
    print(line("all", plain_s, ours_s, conv_s, worst))
    parts["start-up, reading, storing"] = ours_s - sum(parts.values())
    for title, times in (("bnrecal", parts), ("plain", clock.seconds)):
        print(f"{title}: " + ", ".join(f"{part} {seconds:.1f} s" for part, seconds in times.items()))


if __name__ == "__main__":
    main([int(b) for b in sys.argv[1].split(",")] if len(sys.argv) > 1 else list(STUDY.bs))
