"""What a training step costs under each normalisation, beside BatchNorm's; and under autocast to bfloat16."""

import statistics
from typing import Any

import torch
from place import Place
from torch import nn

from bnrecal import norms
from bnrecal.host.device import now_s

NORMS: dict[str, tuple[str, dict[str, int]]] = {
    "bn": ("bn", {}),
    "bn, norm batch 4": ("bn", {"norm_batch": 4}),
    "brn": ("brn", {"rmax": 3, "dmax": 5}),
    "cbn": ("cbn", {}),
    "gn": ("gn", {}),
    "ln": ("ln", {}),
    "in": ("in", {}),
    "frozen": ("frozen", {}),
}


def step_s(place: Place, model: nn.Module, half: bool) -> tuple[float, bool]:
    """(median seconds of forward, backward and SGD; whether the loss stayed finite)."""
    images = place.images(8 if place.small else 32)
    if place.small:  # maps of one pixel have no variance by image and channel
        images = nn.functional.interpolate(images, scale_factor=2)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(len(images), dtype=torch.int64, device=place.device)
    optimiser = torch.optim.SGD(model.parameters(), 1e-4)
    taken, finite = [], True
    for _ in range(place.rounds + 2):
        started = now_s(place.device)
        optimiser.zero_grad()
        with torch.autocast(place.device.type, torch.bfloat16, enabled=half):
            loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimiser.step()
        taken.append(now_s(place.device) - started)
        finite &= bool(loss.isfinite())
    return statistics.median(taken[2:]), finite


def measure(place: Place) -> dict[str, Any]:
    seconds, finite = {}, {}
    for name, (norm, numbers) in NORMS.items():
        model = norms.convert(place.network().to(memory_format=torch.channels_last).train(), norm, **numbers)
        seconds[name], finite[name] = step_s(place, model, False)
    half = place.network().to(memory_format=torch.channels_last).train()
    seconds["bn, bfloat16"], finite["bn, bfloat16"] = step_s(place, half, True)
    return {
        "seconds": seconds,
        "by_bn": {name: taken / seconds["bn"] for name, taken in seconds.items()},
        "not_finite": [name for name, good in finite.items() if not good],
        "passed": all(finite.values()),
    }
