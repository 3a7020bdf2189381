"""Images a second of a recalibration by batch size, beside the device's memory bandwidth, and peak memory.

The bandwidth is that of copying a large tensor, bytes read and written. How far the activations of a
train-mode forward are from it is the share: each BatchNorm reads its input twice and writes it once, at
least, and `bytes_per_image` counts just that.
"""

import statistics
from typing import Any

import torch
from place import Place
from torch import nn

import bnrecal
from bnrecal.host.device import now_s

PASSES = 3  # over a BatchNorm's input: for its moments, to normalise, and the result


def bandwidth_bytes_per_s(place: Place) -> float:
    source = torch.ones((2**22 if place.small else 2**28) // 4, device=place.device)
    target = torch.empty_like(source)
    taken = []
    for _ in range(place.rounds + 1):
        started = now_s(place.device)
        target.copy_(source)
        taken.append(now_s(place.device) - started)
    return 2 * source.numel() * source.element_size() / statistics.median(taken[1:])


def bytes_per_image(place: Place) -> int:
    """What BatchNorm alone moves for one image in float32."""
    model, sizes = place.network(), []
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].numel()))
    with torch.no_grad():
        model(place.images(1))
    return 4 * PASSES * sum(sizes)


def at_batch_size(place: Place, batch_size: int) -> dict[str, float | None]:
    model, n = place.network(), max(batch_size, min(place.n_images, 1024))
    batches = list(place.images(n).split(batch_size))
    bnrecal.recalibrate(model, batches[:1])
    on_gpu = place.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(place.device)
    taken = [bnrecal.recalibrate(model, batches).seconds for _ in range(place.rounds)]
    peak = torch.cuda.max_memory_allocated(place.device) / 2**20 if on_gpu else None
    return {"images_per_s": n / statistics.median(taken), "peak_mib": peak}


def measure(place: Place) -> dict[str, Any]:
    bandwidth, each = bandwidth_bytes_per_s(place), bytes_per_image(place)
    sizes: dict[str, Any] = {str(size): at_batch_size(place, size) for size in place.batch_sizes}
    for found in sizes.values():
        found["share_of_bandwidth"] = found["images_per_s"] * each / bandwidth
    return {
        "bandwidth_gb_per_s": bandwidth / 1e9,
        "bytes_per_image": each,
        "by_batch_size": sizes,
        "passed": None,
    }
