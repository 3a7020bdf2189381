"""The states of a model's layers under one estimator, as values: `update` gives new ones and changes none.

Layers that are called together have their states side by side, in one tuple of tensors over all their
channels, the block: as long as batches reach the same layers, taking in a batch is one `estimator.update`
of a few long vectors. Where they reach others, the block is taken apart and another is put together.

A step of a walk works on states of its own and commits them at its end (the model is equinox's BatchNorm,
whose state goes in and comes out): a batch that is run again leaves no trace, nor does one that fails.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bnrecal.errors import BnrecalError
from bnrecal.recalibration.estimators import Ema, Estimator, Moments, State
from bnrecal.recalibration.layers import Layer
from bnrecal.recalibration.statistics import Statistics

Indices = tuple[int, ...]  # layers by their place in the model


@dataclass(frozen=True)
class LayerStates:
    """What stands behind each layer after some batches."""

    block: Indices = ()  # the layers taken in last, together
    in_block: State = ()  # theirs, side by side
    apart: Mapping[int, State] = field(default_factory=dict)  # of those called before; of the block's, old
    n_calls: Mapping[Indices, int] = field(default_factory=dict)  # layers taken in together -> how often

    @property
    def called(self) -> Indices:
        """The layers that have a state, in the model's order."""
        return tuple(sorted({*self.block, *self.apart}))


class Rule:
    """An estimator for the layers of one model.

    With `reset` a layer starts from mean 0 and variance 1, else it goes on from the statistics it has now;
    its buffers are looked at when it is first called.
    """

    def __init__(self, estimator: Estimator, layers: Sequence[Layer], reset: bool) -> None:
        self.estimator, self.reset = estimator, reset
        self.names = [layer.name for layer in layers]
        self.sizes = [layer.n_channels for layer in layers]
        self._own = [(la.running_mean, la.running_var, la.module.num_batches_tracked) for la in layers]
        self._counts: tuple[Indices, Tensor] = ((), torch.empty(0))

    def update(self, states: LayerStates, indices: Indices, moments: Moments) -> LayerStates:
        """The states after a batch that gave these moments of these layers, channels side by side.

        Raises BnrecalError where a layer cannot go on from the statistics it has.
        """
        together = indices == states.block
        apart = states.apart if together else self._all_apart(states)
        old = states.in_block if together else self._side_by_side(apart, indices)
        calls = {**states.n_calls, indices: states.n_calls.get(indices, 0) + 1}
        return LayerStates(indices, self.estimator.update(old, moments), apart, calls)

    def statistics(self, states: LayerStates, n_updates: int) -> Statistics:
        """What the states stand for, of the layers that were called; BnrecalError if none was."""
        called = states.called
        together = called == states.block
        state = states.in_block if together else self._side_by_side(self._all_apart(states), called)
        sizes = {self.names[i]: self.sizes[i] for i in called}
        return statistics_of(self.estimator, sizes, state, n_updates, self.tracked(states), self._device)

    def tracked(self, states: LayerStates) -> dict[str, int]:
        """num_batches_tracked of each called layer as PyTorch counts it: one for every call."""
        calls: Counter[int] = Counter()
        for indices, n in states.n_calls.items():
            calls.update(dict.fromkeys(indices, n))
        return {self.names[i]: n + (0 if self.reset else self._tracked_before(i)) for i, n in calls.items()}

    def by_name(self, states: LayerStates) -> dict[str, State]:
        """The state of each layer that was called."""
        return {self.names[i]: state for i, state in self._all_apart(states).items()}

    def counts(self, n_values: Mapping[int, int], indices: Indices) -> Tensor:
        """Values per channel of these layers, for each channel; kept while they are the same."""
        key = (*indices, *(n_values[i] for i in indices))
        if self._counts[0] != key:
            sizes = torch.tensor([self.sizes[i] for i in indices])
            counts = torch.tensor([n_values[i] for i in indices], dtype=torch.float64)
            self._counts = (key, counts.repeat_interleave(sizes).to(self._device))
        return self._counts[1]

    @property
    def _device(self) -> torch.device:
        return self._own[0][0].device

    def _side_by_side(self, apart: Mapping[int, State], indices: Indices) -> State:
        """The states of these layers, of those without one their start."""
        return side_by_side(apart[i] if i in apart else self._start(i) for i in indices)

    def _all_apart(self, states: LayerStates) -> Mapping[int, State]:
        if not states.block:
            return states.apart
        sizes = [self.sizes[i] for i in states.block]
        parts = zip(*(torch.split(part, sizes) for part in states.in_block), strict=True)
        return {**states.apart, **dict(zip(states.block, parts, strict=True))}

    def _start(self, index: int) -> State:
        own = self._own[index]
        mean, var = own[0].double(), own[1].double()
        if self.reset:
            return self.estimator.start(torch.zeros_like(mean), torch.ones_like(var))
        if own[2] is None and not isinstance(self.estimator, Ema):
            name = self.names[index]
            raise BnrecalError(
                f"reset=False: {name} has no num_batches_tracked to go on from; valid with ema"
            )
        return self.estimator.resume(mean, var, self._tracked_before(index))

    def _tracked_before(self, index: int) -> int:
        tracked = self._own[index][2]
        return 0 if tracked is None else int(tracked)


def side_by_side(states: Iterable[State]) -> State:
    """States of several layers as one, their channels one after another."""
    return tuple(torch.cat(parts) for parts in zip(*states, strict=True))


def statistics_of(
    estimator: Estimator,
    sizes: Mapping[str, int],
    state: State,
    n_updates: int,
    tracked: Mapping[str, int],
    device: torch.device,
) -> Statistics:
    """What a walk found, in one process or in several: `state` of the layers named in `sizes`, side by side.

    Raises BnrecalError if there is no layer.
    """
    if not sizes:
        raise BnrecalError("no batch reached a BatchNorm with running statistics")
    mean, var = estimator.compute(state)
    return Statistics(
        tuple(sizes),
        tuple(sizes.values()),
        mean.to(device),
        var.to(device),
        n_updates,
        tuple(tracked[name] for name in sizes),
    )
