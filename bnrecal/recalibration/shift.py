"""How far one set of running statistics lies from another, layer by layer.

What counts is what the layer does with them: it divides by sqrt(var + eps). So distances of means are in
units of that root, and variances are compared with eps added; a channel that is constant (variance 0)
is then no infinite change, as it changes nothing that the layer computes.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnrecal.recalibration.statistics import Statistics

Pair = tuple[Tensor, Tensor]  # mean, variance; float64, shape (channels,)


@dataclass(frozen=True)
class Shift:
    """One layer's new statistics seen from its old ones."""

    layer: str
    n_channels: int
    mean: float  # root mean square over the channels of |new - old mean|, in old standard deviations
    mean_worst: float  # the largest of them
    var_ratio: float  # new by old variance, the geometric mean over the channels
    var_lowest: float
    var_highest: float
    var_factor: float  # e to the root mean square of log ratios: how many times, up or down, typically

    @property
    def size(self) -> float:
        """One number to sort by; infinite where either set has NaN, infinity or a negative variance."""
        return self.mean + math.log(self.var_factor) if math.isfinite(self.var_factor) else math.inf

    def to_dict(self) -> dict[str, Any]:
        """Plain values; what is no finite number is None."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


def shift_of(layer: str, old: Pair, new: Pair, eps: float) -> Shift:
    """Compare two statistics of one layer; the eps is the layer's own."""
    spread = old[1] + eps
    far = (new[0] - old[0]).abs() / spread.sqrt()
    log_ratio = ((new[1] + eps) / spread).log()
    if not bool(far.isfinite().all() and log_ratio.isfinite().all()):
        inf, nan = math.inf, math.nan
        return Shift(layer, len(far), inf, inf, nan, nan, nan, inf)
    typical, lowest, highest = (math.exp(x) for x in (log_ratio.mean(), log_ratio.min(), log_ratio.max()))
    factor = math.exp(log_ratio.square().mean().sqrt())
    far_rms = float(far.square().mean().sqrt())
    return Shift(layer, len(far), far_rms, float(far.max()), typical, lowest, highest, factor)


def stored(model: nn.Module) -> dict[str, Pair]:
    """Copies of the running statistics of every BatchNorm that keeps some, by its first name."""
    found = {}
    for name, module in model.named_modules():
        mean, var = getattr(module, "running_mean", None), getattr(module, "running_var", None)
        if isinstance(module, _BatchNorm) and mean is not None and var is not None:
            found[name] = (_copy(mean), _copy(var))
    return found


def _copy(buffer: Tensor) -> Tensor:
    return buffer.detach().to("cpu", torch.float64, copy=True)


def shifts(model: nn.Module, old: dict[str, Pair], new: Statistics) -> list[Shift]:
    """The shift of every layer of `new`, the largest first; `model` knows each layer's eps."""
    found = (
        shift_of(name, old[name], (mean.cpu(), var.cpu()), _eps(model, name))
        for name, (mean, var) in new.by_name().items()
    )
    return worst_first(found)


def worst_first(found: Iterable[Shift]) -> list[Shift]:
    return sorted(found, key=lambda shift: -shift.size)


def _eps(model: nn.Module, name: str) -> float:
    eps: float = model.get_submodule(name).eps  # type: ignore[assignment]
    return eps
