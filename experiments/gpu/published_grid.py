"""The published grid: batch sizes 8 to 64 by 2,560 to 10,240 images, seconds of the update pass.

For each cell what recalibrate says that it took (a row's recal_s) beside a clock that waits for the device;
for each batch size what its peers take for the most images. Images come from memory on the device, one pool
over and over, so that nothing but the pass is timed. What is said is honest if it is the clock's to 2 %.
"""

from typing import Any

from peers import PEERS
from place import Place
from torch import Tensor

import bnrecal
from bnrecal.host.device import now_s

POOL = 512  # images


def batches_of(pool: Tensor, batch_size: int, n_images: int) -> list[Tensor]:
    parts = pool.split(batch_size)
    return [parts[k % len(parts)] for k in range(n_images // batch_size)]


def measure(place: Place) -> dict[str, Any]:
    sizes, counts = ((8, 16), (32, 64)) if place.small else ((8, 16, 32, 64), (2560, 5120, 10240))
    pool, model = place.images(min(POOL, counts[-1])), place.network()
    cells: dict[str, Any] = {}
    ratios = []
    for size in sizes:
        bnrecal.recalibrate(model, batches_of(pool, size, counts[0]))  # warms up
        found: dict[str, Any] = {}
        for n in counts:
            started = now_s(place.device)
            said = bnrecal.recalibrate(model, batches_of(pool, size, n)).seconds
            taken = now_s(place.device) - started
            ratios.append(said / taken)
            found[f"{n:,} images"] = {"recal_s": said, "clock_s": taken}
        for name, run in PEERS.items():
            started = now_s(place.device)
            run(model, batches_of(pool, size, counts[-1]))
            found[f"{name}, {counts[-1]:,} images"] = now_s(place.device) - started
        cells[f"batch size {size}"] = found
    honest = all(0.98 <= ratio <= 1 for ratio in ratios)
    return {
        "cells": cells,
        "said_by_clock": [min(ratios), max(ratios)],
        "passed": None if place.small else honest,
    }
