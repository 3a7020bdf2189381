"""Evaluation of many images at once, each with the running statistics of its own batch.

The update metric predicts batch t with the statistics as they stand after batch t. Run batch by
batch that is a small forward each; here several batches go through the convolutions together and
only BatchNorm treats each image with the statistics of its group.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnrecal.recalibration.batches import Forward, call
from bnrecal.recalibration.statistics import Statistics

_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class NotByImageError(Exception):
    """A BatchNorm was given another number of items than there are images, such as boxes or patches."""


class GroupedEvaluation:
    """Runs images under per-image statistics; owns `model`, whose BatchNorms it changes for good.

    For models that `can_serve`, and whose batch dimension is the images at every BatchNorm;
    `NotByImageError` tells when it is not.
    """

    def __init__(self, model: nn.Module, forward: Forward = call) -> None:
        self.model, self.forward = model.eval(), forward
        self._now: dict[str, tuple[Tensor, Tensor]] = {}  # layer -> scale, shift (images, channels)
        self._norms = dict(_norms(model))
        for name, module in self._norms.items():
            setattr(module, "forward", self._normalise(name, module.forward))  # noqa: B010

    @staticmethod
    def can_serve(model: nn.Module) -> bool:
        """Whether every BatchNorm is of a type whose forward is known exactly, and has statistics.

        One without normalises by batch even in evaluation, so that batches must not be mixed.
        """
        return all(type(m) in _PLAIN and m.running_mean is not None for _, m in _norms(model))

    @torch.inference_mode()
    def run(self, x: Tensor, groups: Sequence[tuple[int, Statistics]]) -> Any:
        """model(x), where `groups` are the consecutive (images, statistics) that make up x.

        All statistics must be of the same layers; other layers use their own buffers.
        """
        layers = groups[0][1].layers
        sizes = torch.tensor([n for n, _ in groups])
        mean = torch.stack([statistics.mean for _, statistics in groups])  # (groups, channels)
        var = torch.stack([statistics.var for _, statistics in groups])
        own = [self._norms[name] for name in layers]
        weight, bias, eps = (torch.cat(parts) for parts in zip(*map(_affine, own), strict=True))
        scale = weight * (var + eps).rsqrt()
        shift = bias - mean * scale
        image = torch.arange(len(groups)).repeat_interleave(sizes).to(mean.device)
        widths = list(groups[0][1].sizes)
        scales = torch.split(scale.to(x.dtype)[image], widths, 1)
        shifts = torch.split(shift.to(x.dtype)[image], widths, 1)
        self._now = dict(zip(layers, zip(scales, shifts, strict=True), strict=True))
        return self.forward(self.model, x)

    def _normalise(self, name: str, usual: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def forward(x: Tensor) -> Tensor:
            if name not in self._now:
                return usual(x)
            scale, shift = self._now[name]
            if len(x) != len(scale):
                raise NotByImageError(f"{name} sees {len(x)} items for {len(scale)} images")
            shape = scale.shape + (1,) * (x.dim() - 2)
            return torch.addcmul(shift.view(shape), x, scale.view(shape))

        return forward


def _norms(model: nn.Module) -> list[tuple[str, _BatchNorm]]:
    return [(name, m) for name, m in model.named_modules() if isinstance(m, _BatchNorm)]


def _affine(norm: _BatchNorm) -> tuple[Tensor, Tensor, Tensor]:
    """(weight, bias, eps) per channel in float64."""
    assert norm.running_mean is not None
    one = torch.ones_like(norm.running_mean, dtype=torch.float64)
    weight = one if norm.weight is None else norm.weight.double()
    bias = one * 0 if norm.bias is None else norm.bias.double()
    return weight, bias, one * norm.eps
