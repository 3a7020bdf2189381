"""What recalibration takes, by a clock that waits for the device, beside its peers.

bnrecal's estimators, a bare train-mode forward, torch.optim.swa_utils.update_bn and, where it is installed,
fvcore's precise BN, on the same batches in turn; medians over rounds. A time that recalibrate reports of
itself is honest if it is not below the clock's by more than a fiftieth.
"""

import importlib.util
import statistics
from collections.abc import Callable
from typing import Any

import torch
from place import Place
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

import bnrecal
from bnrecal.host.device import now_s


def bare_forward(model: nn.Module, batches: list[Tensor]) -> None:
    model.train()
    with torch.no_grad():
        for batch in batches:
            model(batch)


def ours(estimator: str) -> Callable[[nn.Module, list[Tensor]], Any]:
    return lambda model, batches: bnrecal.recalibrate(model, batches, estimator=estimator).seconds


def contestants() -> dict[str, Callable[[nn.Module, list[Tensor]], Any]]:
    named: dict[str, Callable[[nn.Module, list[Tensor]], Any]] = {"bare forward": bare_forward}
    named |= {estimator: ours(estimator) for estimator in ("ema", "cumulative", "pooled")}
    named["torch update_bn"] = lambda model, batches: update_bn(batches, model.train())
    if importlib.util.find_spec("fvcore"):
        from fvcore.nn.precise_bn import update_bn_stats

        named["fvcore"] = lambda model, batches: update_bn_stats(model.train(), batches, len(batches))
    return named


def measure(place: Place) -> dict[str, Any]:
    batches = list(place.images(min(place.n_images, 1024)).split(64))
    runs = contestants()
    models = {name: place.network() for name in runs}
    times: dict[str, list[float]] = {name: [] for name in runs}
    said: list[float] = []  # what recalibrate reports of itself, by the clock's reading
    for k in range(place.rounds + 1):
        for name, run in runs.items():
            started = now_s(place.device)
            reported = run(models[name], batches)
            taken = now_s(place.device) - started
            if k:  # the first round warms up
                times[name].append(taken)
            if k and isinstance(reported, float):
                said.append(reported / taken)
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    return {
        "seconds": medians,
        "by_bare_forward": {name: taken / medians["bare forward"] for name, taken in medians.items()},
        "left_out": [] if "fvcore" in runs else ["fvcore: not installed (bnrecal[bench])"],
        "reported_by_clock": statistics.median(said),
        "passed": None if place.small else 0.98 <= statistics.median(said) <= 1,
    }
