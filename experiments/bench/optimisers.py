"""What a step of LARS and of LARC costs beside a step of torch's SGD, on ResNet-18's parameters.

    python experiments/bench/optimisers.py [rounds] [device]

SGD, momentum .9 and weight decay 1e-4 everywhere; gradients stay the same. Each round runs every
contestant once, in turn and in changing order; ratios are taken within a round, so that a machine that
slows down slows down both. Prints the median milliseconds and the median ratio to SGD with foreach=True
over the rounds. timm's Lars runs along where timm is installed. On CUDA the clock waits for the device.
"""

import importlib.util
import statistics
import sys
import time
from collections.abc import Callable

import torch
import torchvision
from torch import nn
from torch.optim import SGD, Optimizer

from bnrecal.optimisers import LARC, LARS

BASE = "SGD foreach"


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


def compare(device: torch.device, rounds: int) -> dict[str, tuple[float, float]]:
    """Median seconds of a step and median ratio to SGD foreach, by contestant."""
    optimisers = {name: make(parameters(device)) for name, make in contestants().items()}
    names = list(optimisers)
    times: dict[str, list[float]] = {name: [] for name in names}
    for k in range(rounds + 2):
        for name in names[k % len(names) :] + names[: k % len(names)]:
            taken = step_s(optimisers[name], device)
            if k >= 2:  # the first rounds make the buffers and warm up
                times[name].append(taken)
    return {
        name: (
            statistics.median(times[name]),
            statistics.median(t / b for t, b in zip(times[name], times[BASE], strict=True)),
        )
        for name in names
    }


def main(rounds: int, device: torch.device) -> None:
    print(f"a step on ResNet-18's parameters, {device}, {rounds} rounds, {torch.get_num_threads()} threads")
    for name, (seconds, ratio) in compare(device, rounds).items():
        print(f"{name:22}{seconds * 1e3:8.2f} ms{ratio:8.3f}")


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 51,
        torch.device(sys.argv[2] if len(sys.argv) > 2 else "cpu"),
    )
