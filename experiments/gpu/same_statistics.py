"""Do re-estimated statistics agree with those of the processor?

Each estimator on the device and on the processor, from the same images: in float32 without TF32 (which
rounds a convolution's inputs to 10 bits) to 1e-5, and under float16 autocast, CUDA's own kind, to 2e-2.
bfloat16 has three bits less and is only measured: on the processor, in small, .06 in the deepest layers.
There half precision is slow, so `exact`, which makes a pass for each layer, is left to float32. An error is
the largest over all channels of |mean - mean'| / deviation and of |var - var'| / var.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from place import Place
from torch import Tensor, nn

import bnrecal

DTYPES = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}  # of autocast
LIMITS = {"float32": 1e-5, "float16": 2e-2}
ESTIMATORS = ("ema", "cumulative", "pooled", "exact")


def estimators_of(precision: str, small: bool) -> tuple[str, ...]:
    return tuple(e for e in ESTIMATORS if e != "exact" or precision == "float32" or not small)


@contextmanager
def full_float32() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def statistics(place: Place, estimator: str, precision: str) -> list[tuple[Tensor, Tensor]]:
    """Mean and variance of each BatchNorm, on the processor in float64."""
    model, n = place.network(), 32 if place.small else 128
    batches = list(place.images(n).split(16 if place.small else 32))
    dtype = DTYPES[precision]
    with full_float32(), torch.autocast(place.device.type, dtype, enabled=dtype is not None):
        bnrecal.recalibrate(model, batches, estimator=estimator)
    layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    return [
        (m.running_mean.double().cpu(), m.running_var.double().cpu())
        for m in layers
        if m.running_mean is not None and m.running_var is not None
    ]


def largest_error(found: list[tuple[Tensor, Tensor]], expected: list[tuple[Tensor, Tensor]]) -> float:
    errors = []
    for (mean, var), (true_mean, true_var) in zip(found, expected, strict=True):
        errors.append(((mean - true_mean).abs() / true_var.sqrt()).max())
        errors.append(((var - true_var).abs() / true_var).max())
    return float(torch.stack(errors).max())


def measure(place: Place) -> dict[str, Any]:
    reference = Place(torch.device("cpu"), place.small)
    expected = {estimator: statistics(reference, estimator, "float32") for estimator in ESTIMATORS}
    errors = {
        f"{estimator}, {precision}": largest_error(
            statistics(place, estimator, precision), expected[estimator]
        )
        for precision in DTYPES
        for estimator in estimators_of(precision, place.small)
    }
    return {
        "largest_error": errors,
        "limits": LIMITS,
        "passed": all(
            error <= LIMITS.get(name.split(", ")[1], float("inf")) for name, error in errors.items()
        ),
    }
