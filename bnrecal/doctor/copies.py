"""Copies of a model to look at: in evaluation mode, by batch, and with statistics re-estimated."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnrecal.doctor.recut import recut
from bnrecal.recalibration.batches import Forward, count_images
from bnrecal.recalibration.estimators import Pooled
from bnrecal.recalibration.shift import Pair, Shift, shift_of
from bnrecal.recalibration.statistics import Statistics
from bnrecal.recalibration.walk import Walk

WALK_SIZE = 64  # images in a batch when statistics are re-estimated


@dataclass(frozen=True)
class Fresh:
    """Statistics re-estimated in batches of WALK_SIZE, each layer's input normalised by batch."""

    statistics: Statistics
    half: Statistics | None  # of every other batch, beginning with the first
    noise: dict[str, Shift]  # by layer: from the estimate of every other batch to that of all
    first_called: str | None


def all_in_eval_mode(model: nn.Module) -> nn.Module:
    """A copy with every flag set by hand, since a model's own eval() may do less or more."""
    model = copy.deepcopy(model)
    for module in model.modules():
        module.training = False
    return model


def by_batch(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode but for its BatchNorms, whatever eval() is called on it."""
    model = all_in_eval_mode(model)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.training = True
    model.__dict__["train"] = lambda mode=True: model  # eval() calls it
    return model


def with_statistics(model: nn.Module, statistics: Statistics) -> nn.Module:
    """A copy in evaluation mode that normalises by these."""
    model = all_in_eval_mode(model)
    statistics.write_to(model)
    return model


def re_estimated(
    model: nn.Module,
    images: list[Any],
    forward: Forward,
    eps: Mapping[str, float],
    frozen: tuple[str, ...] = (),
) -> Fresh:
    """Statistics of a copy from these images; `eps` of each layer scales how far halves of them differ."""
    model = all_in_eval_mode(model)
    batches = list(recut(images, WALK_SIZE))
    if len(batches) > 1 and count_images(batches[-1]) < WALK_SIZE // 2:
        batches.pop()  # a short last batch is normalised by too few images to be compared with
    order = batches[::2] + batches[1::2]  # so that halves are alike however the images are sorted
    half: Statistics | None = None
    with Walk(model, Pooled(), forward, frozen=frozen) as walk:
        for k, batch in enumerate(order):
            walk.step(batch)
            if 2 * (k + 1) == len(order) + len(order) % 2 and len(order) > 1:
                half = walk.statistics()
        whole = walk.statistics()
    noise = {}
    if half is not None:
        old, new = on_cpu(half), on_cpu(whole)
        noise = {n: shift_of(n, old[n], new[n], eps[n]) for n in new if n in old}
    return Fresh(whole, half, noise, walk.first_called)


def on_cpu(statistics: Statistics) -> dict[str, Pair]:
    return {name: (mean.cpu(), var.cpu()) for name, (mean, var) in statistics.by_name().items()}
