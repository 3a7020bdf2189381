"""A small network whose statistics are sane, its images, and metrics to evaluate it by."""

import copy
import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

import bnrecal

N = 129  # two batches of 64 and one more


def smooth_images(n: int, seed: int, side: int = 16) -> Tensor:
    """Random fields with a brightness and a contrast of their own; (n, 3, side, side)."""
    dice = torch.Generator().manual_seed(seed)
    low = torch.randn(n, 3, 4, 4, generator=dice)
    x = nn.functional.interpolate(low, size=(side, side), mode="bilinear")
    contrast, brightness = (
        torch.rand(n, 1, 1, 1, generator=dice) + 0.5,
        torch.randn(n, 3, 1, 1, generator=dice),
    )
    return x * contrast + brightness * 0.3 + torch.randn(n, 3, side, side, generator=dice) * 0.1


IMAGES = smooth_images(N, 1)
BATCHES = list(IMAGES.split(32))


class Small(nn.Module):
    """Three BatchNorms, one of them in a residual branch, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.branch = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8))
        self.last = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.drop, self.head = nn.Dropout(0.3), nn.Linear(16, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.last(torch.relu(x + self.branch(x)))
        y: Tensor = self.head(self.drop(x.mean((2, 3))))
        return y


@functools.cache
def _sane() -> nn.Module:
    torch.manual_seed(0)
    model = Small()
    bnrecal.recalibrate(model, smooth_images(1024, 2).split(64))
    return model.eval()


def sane() -> Any:
    """The small network with statistics from 1,024 other images of the same kind, in eval mode."""
    return copy.deepcopy(_sane())


@functools.cache
def labels() -> Tensor:
    """What the sane network says: it is right about all of them."""
    with torch.no_grad():
        found: Tensor = _sane()(IMAGES).argmax(1)
    return found


def accuracy(model: nn.Module, batches: Iterable[Any]) -> float:
    """Top-1 over all images of the batches, however they are split."""
    right = _right(model, batches)
    return float(torch.cat(right).mean())


def mean_of_means(model: nn.Module, batches: Iterable[Any]) -> float:
    """The usual mistake: every batch counts as much, the short last one too."""
    return float(torch.stack([batch.mean() for batch in _right(model, batches)]).mean())


def _right(model: nn.Module, batches: Iterable[Any]) -> list[Tensor]:
    model.eval()
    found, read = [], 0
    for batch in batches:
        where = torch.arange(read, read + len(batch))
        truth = torch.where(where % 3 == 0, -1, labels()[where])  # every third label is one nobody says
        found.append((model(batch).argmax(1) == truth).double())
        read += len(batch)
    return found


def each(model: nn.Module, change: Callable[[Any], Any]) -> None:
    """Apply `change` to every BatchNorm."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            change(module)


@functools.cache
def sane_torchvision(name: str) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=10)
    bnrecal.recalibrate(model, smooth_images(512, 3, 32).split(64))
    return model.eval()
