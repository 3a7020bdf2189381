"""Whether images are scaled as the network's training images were, and if not, how it would fit better.

The usual normalisations are tried on the images, and the one is looked for under which the first
BatchNorms see what their running statistics say (recalibration/input_fit.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from bnrecal.data.normalisations import BYTES, HALF, PLAIN, MeanStd, known
from bnrecal.data.prepared import Better
from bnrecal.recalibration.batches import Forward
from bnrecal.recalibration.input_fit import Affine, misfit
from bnrecal.tasks.task import Task

# Distances measured under the right scaling: at most .01 on images of the kind trained on, .03 for
# ImageNet's MobileNetV2 on CIFAR-10, .07 on solar cells. Under a wrong one: .1 to 2.6.
BAD = 0.1  # from here on something is wrong
GOOD = 0.1  # the better one has at most this,
N_IMAGES, N_PIXELS = 128, 64 * 224 * 224  # looked at: so many images or pixels
TIMES = 4.0  # and so many times less than the images as they are
OWN_GOOD = 0.01  # scaled by their own mean and std, images of any kind come near
OWN = "these images' own"


def n_looked_at(height: int, width: int) -> int:
    """Images of this size that are enough: at least 16."""
    return max(16, min(N_IMAGES, N_PIXELS // (height * width)))


@dataclass(frozen=True)
class Fit:
    """How the images fit as they are, and the better way if there is one. NaN: nothing to compare with."""

    distance: float
    given: MeanStd | None  # None: the images do not say
    better: Better | None = None


def fit_of(model: nn.Module, batches: Sequence[Any], forward: Forward, given: MeanStd | None) -> Fit:
    """Try the usual normalisations on these images, which came by `given`, or by what their range says.

    A better one is told only if the images as they are fit badly (BAD) and it fits well (GOOD) and TIMES
    better.
    """
    images = images_of(batches)
    distance = misfit(model, batches, forward)
    if given is None and images is not None:
        given = guessed(images)
    if math.isnan(distance) or distance < BAD or images is None or given is None:
        return Fit(distance, given)
    channels = images.shape[1]
    own = _own(images, given)
    found: list[Better] = []
    for name, value in {**known(channels), OWN: own}.items():
        if _same(value, given, channels):
            continue
        other = misfit(model, batches, forward, _affine(given, value, channels))
        if other <= (OWN_GOOD if name == OWN else GOOD) and other * TIMES <= distance:
            found.append(Better(name, value, other, given, distance))
    return Fit(distance, given, min(found, key=_preference) if found else None)


def _preference(found: Better) -> tuple[float, float]:
    """The smallest distance, equal ones by name: what differs by less than OWN_GOOD is no evidence.

    The images' own comes last: it depends on the images.
    """
    return (math.floor(found.distance / OWN_GOOD) + (found.name == OWN), found.distance)


def images_of(batches: Sequence[Any]) -> Tensor | None:
    """All images of one shape (images, 1 or 3 channels, height, width); None if the batches hold none."""
    found: list[Tensor] = []
    for leaf in pytree.tree_leaves(list(batches)):
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.dim() in (3, 4):
            images = leaf.detach() if leaf.dim() == 4 else leaf.detach()[None]
            if images.shape[1] in (1, 3) and (not found or images.shape[1:] == found[0].shape[1:]):
                found.append(images)
    return torch.cat(found) if found else None


def guessed(images: Tensor) -> MeanStd | None:
    """The normalisation that these images' range speaks for; None if for none.

    0 to 1, 0 to 255 and -1 to 1 are told by their ends; ImageNet's by a range that only it explains.
    """
    low, high = float(images.min()), float(images.max())
    if low >= 0:
        return PLAIN if high <= 1 else BYTES if 1.5 < high <= 255 else None
    if low >= -1 and high <= 1:
        return HALF
    mean, std = known(images.shape[1])["ImageNet's"]
    factor, offset = _affine((mean, std), PLAIN, images.shape[1])
    pixels = images * factor.to(images) + offset.to(images)
    return (mean, std) if float(pixels.min()) >= -1e-3 and float(pixels.max()) <= 1.001 else None


def normalisation_of(task: Task) -> MeanStd | None:
    """What the task's images come by; None for a task that brings its own as they are."""
    resolved = task.resolved
    return (tuple(resolved["mean"]), tuple(resolved["std"])) if "mean" in resolved else None


def towards(better: Better, channels: int) -> Affine:
    """From the images as they are to those scaled so."""
    return _affine(better.given, better.value, channels)


def _own(images: Tensor, given: MeanStd) -> MeanStd:
    factor, offset = _affine(given, PLAIN, images.shape[1])
    pixels = (images.double() * factor.to(images) + offset.to(images)).transpose(0, 1).flatten(1)
    mean, std = pixels.mean(1), pixels.std(1).clamp(min=1e-4)
    return tuple(round(v, 4) for v in mean.tolist()), tuple(round(v, 4) for v in std.tolist())


def _affine(given: MeanStd, wanted: MeanStd, channels: int) -> Affine:
    """x -> (x std + mean - wanted mean) / wanted std, as a factor and an offset per channel."""
    mean, std, new_mean, new_std = (
        torch.tensor(values, dtype=torch.float64).expand(channels).view(-1, 1, 1)
        for values in (*given, *wanted)
    )
    return std / new_std, (mean - new_mean) / new_std


def _same(a: MeanStd, b: MeanStd, channels: int) -> bool:
    factor, offset = _affine(a, b, channels)
    return bool(((factor - 1).abs() < 0.02).all() and (offset.abs() < 0.02).all())
