"""What recalibration takes, by a clock that waits for the device, beside its peers.

bnrecal's estimators, a bare train-mode forward, torch.optim.swa_utils.update_bn and a loop as fvcore's
precise BN has it, on the same batches in turn; medians over rounds. A time that recalibrate reports of itself
is honest if it is not below the clock's by more than a fiftieth.
"""

import statistics
from collections.abc import Callable
from typing import Any

from peers import PEERS
from place import Place
from torch import Tensor, nn

import bnrecal
from bnrecal.host.device import now_s


def ours(estimator: str) -> Callable[[nn.Module, list[Tensor]], Any]:
    return lambda model, batches: bnrecal.recalibrate(model, batches, estimator=estimator).seconds


def contestants() -> dict[str, Callable[[nn.Module, list[Tensor]], Any]]:
    return PEERS | {estimator: ours(estimator) for estimator in ("ema", "cumulative", "pooled")}


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
        "reported_by_clock": statistics.median(said),
        "passed": None if place.small else 0.98 <= statistics.median(said) <= 1,
    }
