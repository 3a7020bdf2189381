"""How the moments of successive batches become running statistics.

An estimator is a pure pair: `update(state, moments)` returns the next state and `compute(state)`
the statistics it stands for; nothing is changed in place. States are tuples of float64 tensors with
one entry per channel (the channels of all layers side by side), so channels never mix and a fifth
estimator is one class here.

Notation: batch t of T gives n values per channel, their mean mu and unbiased variance u = M2 / (n - 1).
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

State = tuple[Tensor, ...]


@dataclass(frozen=True)
class Moments:
    """What one batch says about each channel; three float64 tensors of shape (channels,)."""

    count: Tensor  # values per channel: images x height x width
    mean: Tensor
    var: Tensor  # unbiased, as PyTorch averages into running_var


class Estimator(Protocol):
    """`start` gets the statistics the layers begin with; shape (channels,), float64."""

    def start(self, mean: Tensor, var: Tensor) -> State: ...

    def update(self, state: State, batch: Moments) -> State: ...

    def compute(self, state: State) -> tuple[Tensor, Tensor]:
        """(mean, variance) as they belong into running_mean and running_var."""
        ...


@dataclass(frozen=True)
class Ema:
    """Exponential moving average, PyTorch's train mode: m <- (1 - a) m + a mu, v <- (1 - a) v + a u.

    After T updates (1 - a)^T of the start is still in the estimate; its window is about (2 - a) / a
    batches.
    """

    momentum: float = 0.1

    def start(self, mean: Tensor, var: Tensor) -> State:
        return mean, var

    def update(self, state: State, batch: Moments) -> State:
        mean, var = state
        return torch.lerp(mean, batch.mean, self.momentum), torch.lerp(var, batch.var, self.momentum)

    def compute(self, state: State) -> tuple[Tensor, Tensor]:
        mean, var = state
        return mean, var


@dataclass(frozen=True)
class Cumulative:
    """Plain mean over batches of mu and of u: PyTorch's momentum=None, torch's update_bn.

    A short batch weighs as much as a full one, and the variance between batches is lost.
    """

    def start(self, mean: Tensor, var: Tensor) -> State:
        return torch.zeros_like(mean), mean, var

    def update(self, state: State, batch: Moments) -> State:
        n, mean, var = state
        n = n + 1
        return n, mean + (batch.mean - mean) / n, var + (batch.var - var) / n

    def compute(self, state: State) -> tuple[Tensor, Tensor]:
        _, mean, var = state
        return mean, var


@dataclass(frozen=True)
class Pooled:
    """Mean and variance of all values together, however they were split into batches.

    Merged by the parallel update of Chan, Golub and LeVeque ("Updating formulae and a pairwise
    algorithm for computing sample variances", 1979), which does not cancel as E[x^2] - E[x]^2 does.
    Variance divides by n - 1 (`unbiased`, running_var's convention) or by n.
    """

    unbiased: bool = True

    def start(self, mean: Tensor, var: Tensor) -> State:
        return torch.zeros_like(mean), torch.zeros_like(mean), torch.zeros_like(mean)

    def update(self, state: State, batch: Moments) -> State:
        n, mean, m2 = state
        total = n + batch.count
        gap = batch.mean - mean
        share = batch.count / total
        within = batch.var * (batch.count - 1)
        return total, mean + gap * share, m2 + within + gap.square() * (n * share)

    def compute(self, state: State) -> tuple[Tensor, Tensor]:
        n, mean, m2 = state
        return mean, m2 / (n - 1 if self.unbiased else n)


def make_estimator(name: str, momentum: float | None) -> Estimator:
    """The estimator of this name; raises BnrecalError for an unknown one or a momentum out of (0, 1]."""
    from bnrecal.errors import BnrecalError, unknown_choice

    if name == "ema":
        if momentum is None or not 0 < momentum <= 1:
            raise BnrecalError(f"momentum={momentum!r}: ema needs a momentum above 0 and at most 1")
        return Ema(momentum)
    if name == "cumulative":
        return Cumulative()
    if name == "pooled":
        return Pooled()
    raise unknown_choice("estimator", name, ("ema", "cumulative", "pooled"))
