"""Does the same recalibration give the same bits twice, and what does that take?

Three settings: as torch starts, with cuDNN choosing its algorithms by trial (cudnn.benchmark), and with
torch.use_deterministic_algorithms. The last one must repeat; what it costs in time is measured beside.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from place import Place

import bnrecal
from bnrecal.host.device import now_s


@contextmanager
def trial() -> Iterator[None]:
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@contextmanager
def deterministic() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


SETTINGS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "as it is": nullcontext,
    "cudnn.benchmark": trial,
    "deterministic": deterministic,
}


def once(place: Place) -> tuple[list[torch.Tensor], float]:
    model = place.network()
    batches = list(place.images(min(place.n_images, 256)).split(32))
    started = now_s(place.device)
    bnrecal.recalibrate(model, batches)
    return [b.clone() for b in model.buffers()], now_s(place.device) - started


def measure(place: Place) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, setting in SETTINGS.items():
        with setting():
            once(place)  # warms up
            runs = [once(place) for _ in range(3)]
        first = runs[0][0]
        same = all(torch.equal(a, b) for run, _ in runs for a, b in zip(run, first, strict=True))
        found[name] = {"same_bits": same, "seconds": min(seconds for _, seconds in runs)}
    return {"settings": found, "passed": found["deterministic"]["same_bits"]}
