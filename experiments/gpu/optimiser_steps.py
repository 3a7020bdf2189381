"""What a step of LARS and of LARC costs beside torch's SGD, and beside a whole training step.

The same parameters and gradients (ResNet-18); medians over rounds by a clock that waits for the device. LARS
may cost 1.3 times SGD's step with foreach=True.
"""

import statistics
from collections.abc import Callable
from typing import Any

import torch
from place import Place
from torch import nn
from torch.optim import SGD, Optimizer

from bnrecal.host.device import now_s
from bnrecal.optimisers import LARC, LARS

LIMIT = 1.3
OPTIMISERS: dict[str, Callable[[list[nn.Parameter]], Optimizer]] = {
    "SGD": lambda params: SGD(params, 0.1, 0.9, weight_decay=1e-4, foreach=True),
    "LARS": lambda params: LARS(params, 0.1, 0.9, weight_decay=1e-4),
    "LARC": lambda params: LARC(SGD(params, 0.1, 0.9, weight_decay=1e-4, foreach=True)),
}


def seconds(place: Place, run: Callable[[], Any]) -> float:
    taken = []
    for _ in range(place.rounds + 2):
        started = now_s(place.device)
        run()
        taken.append(now_s(place.device) - started)
    return statistics.median(taken[2:])


def measure(place: Place) -> dict[str, Any]:
    model = place.network().train()
    images = place.images(32)
    labels = torch.zeros(32, dtype=torch.int64, device=place.device)

    def backward() -> None:
        model.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()

    found = {"forward and backward": seconds(place, backward)}
    for name, make in OPTIMISERS.items():
        found[name] = seconds(place, make(list(model.parameters())).step)
    finite = all(bool(p.isfinite().all()) for p in model.parameters())
    ratios = {name: found[name] / found["SGD"] for name in OPTIMISERS}
    return {
        "seconds": found,
        "by_sgd": ratios,
        "finite": finite,
        "passed": finite and (place.small or ratios["LARS"] <= LIMIT),
    }
