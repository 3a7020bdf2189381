"""How the moments of successive batches become running statistics.

An estimator is a pure pair: `update(state, batch)` returns the next state and `compute(state)` the
statistics it stands for; nothing is changed in place. States are tuples of float64 tensors with one
entry per channel (the channels of all layers side by side), so channels never mix, and a fifth
estimator is one class here and its name in the table below.

Notation: batch t of T gives n values per channel, their mean mu and unbiased variance u = M2 / (n - 1).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from bnrecal.errors import BnrecalError, unknown_choice

State = tuple[Tensor, ...]


@dataclass(frozen=True)
class Moments:
    """What one batch says about each channel; three float64 tensors of shape (channels,).

    >>> x = torch.tensor([0.0, 2.0]).double()  # two images of one pixel and one channel
    >>> Moments(torch.tensor([2.0]).double(), x.mean().view(1), x.var().view(1)).var
    tensor([2.], dtype=torch.float64)
    """

    count: Tensor  # values per channel: images x height x width
    mean: Tensor
    var: Tensor  # unbiased, as PyTorch averages into running_var


class Estimator(Protocol):
    """One averaging rule. All tensors have shape (channels,) and are float64.

    A rule that does not depend on the order of batches also has `merge(state, other)`, and is then
    merged across processes state by state; any other is replayed batch by batch (see merge.py).

    A rule of one's own is an object with these four methods. One that keeps the last batch alone:

    >>> class Last:
    ...     def start(self, mean, var):
    ...         return mean, var
    ...     def resume(self, mean, var, n_batches):
    ...         return mean, var
    ...     def update(self, state, batch):
    ...         return batch.mean, batch.var
    ...     def compute(self, state):
    ...         return state
    >>> import bnrecal
    >>> batches = [torch.zeros(2, 1, 1, 1), torch.ones(2, 1, 1, 1)]
    >>> report = bnrecal.recalibrate(torch.nn.BatchNorm2d(1), batches, estimator=Last())
    >>> report.statistics.mean
    tensor([1.], dtype=torch.float64)
    """

    def start(self, mean: Tensor, var: Tensor) -> State:
        """The state before the first batch, for layers that hold these statistics."""
        ...

    def resume(self, mean: Tensor, var: Tensor, n_batches: int) -> State:
        """The state for layers whose statistics stand for `n_batches` batches already.

        Raises BnrecalError if the statistics alone do not tell it.
        """
        ...

    def update(self, state: State, batch: Moments) -> State: ...

    def compute(self, state: State) -> tuple[Tensor, Tensor]:
        """(mean, variance) as they belong into running_mean and running_var."""
        ...


@dataclass(frozen=True)
class Ema:
    """Exponential moving average, PyTorch's train mode: m <- (1 - a) m + a mu, v <- (1 - a) v + a u.

    After T updates (1 - a)^T of the start is still in the estimate; its window is about (2 - a) / a
    batches.

    >>> import bnrecal
    >>> batches = [torch.ones(2, 1, 1, 1)] * 10
    >>> report = bnrecal.recalibrate(torch.nn.BatchNorm2d(1), batches, estimator=Ema(momentum=0.1))
    >>> report.statistics.mean  # 1 - 0.9^10 of the way from 0 to 1
    tensor([0.6513], dtype=torch.float64)
    """

    momentum: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.momentum <= 1:
            raise BnrecalError(f"momentum={self.momentum!r}: ema needs more than 0 and at most 1")

    def start(self, mean: Tensor, var: Tensor) -> State:
        return mean, var

    def resume(self, mean: Tensor, var: Tensor, n_batches: int) -> State:
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

    >>> import bnrecal
    >>> batches = [torch.zeros(8, 1, 2, 2), torch.full((2, 1, 2, 2), 10.0)]
    >>> report = bnrecal.recalibrate(torch.nn.BatchNorm2d(1), batches, estimator=Cumulative())
    >>> report.statistics.mean, report.statistics.var
    (tensor([5.], dtype=torch.float64), tensor([0.], dtype=torch.float64))
    """

    def start(self, mean: Tensor, var: Tensor) -> State:
        return torch.zeros_like(mean), mean, var

    def resume(self, mean: Tensor, var: Tensor, n_batches: int) -> State:
        return torch.full_like(mean, n_batches), mean, var

    def update(self, state: State, batch: Moments) -> State:
        n, mean, var = state
        n = n + 1
        return n, mean + (batch.mean - mean) / n, var + (batch.var - var) / n

    def merge(self, state: State, other: State) -> State:
        """The state of the batches of both."""
        (n, mean, var), (n_other, mean_other, var_other) = state, other
        total = n + n_other
        share = n_other / total.clamp(min=1)
        return total, mean + (mean_other - mean) * share, var + (var_other - var) * share

    def compute(self, state: State) -> tuple[Tensor, Tensor]:
        _, mean, var = state
        return mean, var


@dataclass(frozen=True)
class Pooled:
    """Mean and variance of all values together, however they were split into batches.

    Merged by the pairwise update of Chan, Golub and LeVeque ("Updating formulae and a pairwise
    algorithm for computing sample variances", 1979), which does not cancel as E[x^2] - E[x]^2 does.
    Variance divides by n - 1 (`unbiased`, running_var's convention) or by n.

    >>> import bnrecal
    >>> batches = [torch.zeros(8, 1, 2, 2), torch.full((2, 1, 2, 2), 10.0)]
    >>> report = bnrecal.recalibrate(torch.nn.BatchNorm2d(1), batches, estimator=Pooled(unbiased=False))
    >>> report.statistics.mean, report.statistics.var
    (tensor([2.], dtype=torch.float64), tensor([16.], dtype=torch.float64))
    """

    unbiased: bool = True

    def start(self, mean: Tensor, var: Tensor) -> State:
        return torch.zeros_like(mean), torch.zeros_like(mean), torch.zeros_like(mean)

    def resume(self, mean: Tensor, var: Tensor, n_batches: int) -> State:
        raise BnrecalError(
            "reset=False: pooled statistics cannot be continued, a model does not store how many values "
            "stand behind them; valid with ema and cumulative"
        )

    def update(self, state: State, batch: Moments) -> State:
        within = batch.var * (batch.count - 1)
        return self.merge(state, (batch.count, batch.mean, within))

    def merge(self, state: State, other: State) -> State:
        """The state of both sets of values together; either may be empty (count 0)."""
        (n, mean, m2), (n_other, mean_other, m2_other) = state, other
        total = n + n_other
        gap = mean_other - mean
        share = n_other / total.clamp(min=1)
        return total, mean + gap * share, m2 + m2_other + gap.square() * (n * share)

    def compute(self, state: State) -> tuple[Tensor, Tensor]:
        n, mean, m2 = state
        return mean, m2 / (n - 1 if self.unbiased else n)


# name -> estimator for a momentum; `exact` (see exact.py) is no rule of averaging but a way to walk
ESTIMATORS: dict[str, Callable[[float], Estimator]] = {
    "ema": Ema,
    "cumulative": lambda _: Cumulative(),
    "pooled": lambda _: Pooled(),
}


def make_estimator(name: str, momentum: float) -> Estimator:
    """The estimator of this name; raises BnrecalError for an unknown one or a momentum out of (0, 1]."""
    if name not in ESTIMATORS:
        raise unknown_choice("estimator", name, [*ESTIMATORS, "exact"])
    return ESTIMATORS[name](momentum)
