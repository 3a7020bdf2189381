"""What a step of LARS and of LARC costs beside a step of torch's SGD, on ResNet-18's parameters.

    python experiments/bench/optimisers.py [rounds] [device]

SGD, momentum .9 and weight decay 1e-4 everywhere; gradients stay the same. Each contestant steps in turn
with SGD with foreach=True, the two in a process of their own that gives no memory back to the system:
otherwise a temporary copy costs between nothing and twice the step, by what was freed before; ratios are
taken within a round, so that a machine that slows down slows down both. Prints the median milliseconds of
both and the median ratio. timm's Lars runs along where timm is installed. On CUDA the clock waits for the
device.
"""

import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
import torchvision
from torch import nn
from torch.optim import SGD, Optimizer

from bnrecal.optimisers import LARC, LARS

BASE = "SGD foreach"
KEEP_MEMORY = {  # read by glibc as a process starts, bytes
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "MALLOC_TOP_PAD_": "400000000",
}


def sgd(params: list[nn.Parameter], foreach: bool | None) -> SGD:
    return SGD(params, 0.1, momentum=0.9, weight_decay=1e-4, foreach=foreach)


def contestants() -> dict[str, Callable[[list[nn.Parameter]], Optimizer]]:
    named: dict[str, Callable[[list[nn.Parameter]], Optimizer]] = {
        BASE: lambda params: sgd(params, True),
        "SGD default": lambda params: sgd(params, None),
        "LARS": lambda params: LARS(params, 0.1, weight_decay=1e-4),
        "LARS, all parameters": lambda params: LARS(params, 0.1, weight_decay=1e-4, adapt="all"),
        "LARC, SGD foreach": lambda params: LARC(sgd(params, True)),
        "LARC, SGD default": lambda params: LARC(sgd(params, None)),
    }
    if importlib.util.find_spec("timm"):
        from timm.optim import Lars

        named["timm Lars"] = lambda params: Lars(params, 0.1, momentum=0.9, weight_decay=1e-4)
    return named


def parameters(device: torch.device) -> list[nn.Parameter]:
    """ResNet-18's, with gradients."""
    torch.manual_seed(0)
    params = list(torchvision.models.resnet18(weights=None).to(device).parameters())
    for p in params:
        p.grad = torch.randn_like(p) * 0.01
    return params


def step_s(optimiser: Optimizer, device: torch.device) -> float:
    """Seconds of one step, until the device has done it."""
    started = time.perf_counter()
    optimiser.step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def compare(name: str, device: torch.device, rounds: int) -> tuple[float, float, float]:
    """Median seconds of a contestant's step, of SGD foreach beside it, and the median ratio."""
    make = contestants()
    pair = [make[name](parameters(device)), make[BASE](parameters(device))]
    times: list[tuple[float, float]] = []
    for k in range(rounds + 2):
        order = (0, 1) if k % 2 else (1, 0)
        taken = {i: step_s(pair[i], device) for i in order}
        if k >= 2:  # the first rounds make the buffers and warm up
            times.append((taken[0], taken[1]))
    ours, base = (statistics.median(column) for column in zip(*times, strict=True))
    return ours, base, statistics.median(t / b for t, b in times)


def main(rounds: int, device: torch.device) -> None:
    os.environ.update(KEEP_MEMORY)
    print(f"a step on ResNet-18's parameters, {device}, {rounds} rounds, {torch.get_num_threads()} threads")
    print(f"{'':22}{'ms':>8}{BASE:>13}{'ratio':>8}")
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes:
        for name in contestants():
            ours, base, ratio = processes.submit(compare, name, device, rounds).result()
            print(f"{name:22}{ours * 1e3:8.2f}{base * 1e3:13.2f}{ratio:8.3f}", flush=True)


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 51,
        torch.device(sys.argv[2] if len(sys.argv) > 2 else "cpu"),
    )
