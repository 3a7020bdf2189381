"""The update pass: a model walked over batches, its BatchNorms' moments caught on the way.

How moments are caught without a second look at the activations: PyTorch's own train-mode kernel
computes each batch's mean and variance to normalise, and with momentum 1 writes them, the variance
unbiased, into the running buffers. For the length of a walk the layers are lent buffers that lie side
by side in one vector: after a batch the moments of all layers are there, and go to the estimator in
float64. The layers' own buffers are not touched.

Where the kernel cannot be trusted, moments.py takes the moments from the input itself: in half
precision, in BatchNorms that are not torch's or timm's, for very many values per channel, and for
means far from zero, where its float32 sums lose the variance. The last is seen after the fact: the
batch is then run again with those layers looked at closely, from then on.
"""

import contextlib
import itertools
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from bnrecal.errors import BnrecalError, NotANumberError
from bnrecal.recalibration.batches import Forward, call
from bnrecal.recalibration.estimators import Estimator, Moments, State
from bnrecal.recalibration.forwards import eager_only, forward_of, is_compiled, is_trusted, of_nothing
from bnrecal.recalibration.frozen import Frozen
from bnrecal.recalibration.layers import Layer, find_layers
from bnrecal.recalibration.moments import FAR, MANY, moments_into
from bnrecal.recalibration.scope import Borrowed
from bnrecal.recalibration.states import Indices, LayerStates, Rule
from bnrecal.recalibration.statistics import Statistics


class Walk:
    """A scope in which `step` runs one batch after another and `statistics` tells what they gave.

    Args:
        model: any module with at least one BatchNorm that keeps running statistics.
        estimator: see estimators.py.
        forward: forward(model, batch) runs a batch; by default model(batch) or its first element.
        reset: start from mean 0 and variance 1, else go on from the statistics the model has.
        frozen: which BatchNorms are left alone, as in frozen.py.
        by_batch: normalise each batch by its own statistics, as in train mode. Otherwise the layers
            normalise by the statistics they hold, as in evaluation, and are only looked at.

    Raises BnrecalError if the model has no such BatchNorm; in `step` if a layer gets a single value
    per channel, for NaN or infinity, and if the model raises, always naming the batch. The model is
    then bit-identical to before.
    """

    def __init__(
        self,
        model: nn.Module,
        estimator: Estimator,
        forward: Forward = call,
        reset: bool = True,
        by_batch: bool = True,
        frozen: Frozen = "auto",
    ) -> None:
        self.model, self.estimator, self.forward = model, estimator, forward
        self.reset, self.by_batch = reset, by_batch
        self.layers, self.left_alone = find_layers(model, frozen)
        self._rule = Rule(estimator, self.layers, reset)
        self._states = LayerStates()  # after the batches so far
        self._next = self._states  # those a step is working on
        self.n_updates = 0
        self.most_calls = 0  # of BatchNorms in one batch
        self.first_called: str | None = None
        self._close: set[int] = set()  # layers whose moments are taken from their input
        self._far: set[int] = set()  # layers found to need that in this batch
        self._scope = Borrowed(model, self.layers)
        self._eagerly = eager_only if is_compiled(model) else contextlib.nullcontext
        self._pending: dict[int, int] = {}  # layer called in this batch -> values per channel
        self.record: list[list[dict[str, Moments]]] | None = None  # set to []: keeps each step's moments
        self._kept: list[dict[str, Moments]] = []  # of this step, an entry per call
        # where the moments of all layers appear, side by side: (mean and variance, channels)
        wide = torch.float64 if any(_is_double(layer) for layer in self.layers) else torch.float32
        channels = sum(layer.n_channels for layer in self.layers)
        self._moments = torch.zeros(2, channels, dtype=wide, device=self.layers[0].running_mean.device)
        self._bounds = list(itertools.accumulate((layer.n_channels for layer in self.layers), initial=0))

    def __enter__(self) -> Self:
        self._scope.__enter__()
        try:
            for index, layer in enumerate(self.layers):
                self._borrow(index, layer)
        except BaseException:
            self._scope.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._scope.__exit__(kind, error, trace)

    @torch.no_grad()
    def step(self, batch: Any) -> Any:
        """Run one batch, take its moments into the estimate, return what `forward` returned."""
        while True:
            self._next, self._kept = self._states, []
            self._pending.clear()
            self._far.clear()
            output = self._run(batch)
            self._absorb(tuple(sorted(self._pending)))
            if not self._far - self._close:
                break
            self._close |= self._far  # once more, with these layers looked at closely
        self._states = self._next
        if self.record is not None:
            self.record.append(self._kept)
        if self.first_called is None and self._pending:
            self.first_called = self.layers[next(iter(self._pending))].name
        self.n_updates += 1
        self.most_calls = max(self.most_calls, self._calls_now)
        return output

    def _run(self, batch: Any) -> Any:
        self._calls_now = 0
        try:
            with self._eagerly():
                return self.forward(self.model, batch)
        except BnrecalError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise BnrecalError(f"batch {self.n_updates}: the model raised {what}") from error

    def _keep(self, indices: Indices, moments: Moments) -> None:
        """Append these layers' moments to those of this step, as one entry per call."""
        layers = [self.layers[i] for i in indices]
        sizes = [layer.n_channels for layer in layers]
        parts = zip(*(torch.split(t, sizes) for t in (moments.count, moments.mean, moments.var)), strict=True)
        self._kept.append({layer.name: Moments(*part) for layer, part in zip(layers, parts, strict=True)})

    def statistics(self) -> Statistics:
        """The estimate after the batches so far, for the layers that were called."""
        return self._rule.statistics(self._states, self.n_updates)

    def tracked(self) -> dict[str, int]:
        """num_batches_tracked of each called layer as PyTorch counts it: one for every call."""
        return self._rule.tracked(self._states)

    def states(self) -> dict[str, State]:
        """The estimator's state of each layer that was called."""
        return self._rule.by_name(self._states)

    @property
    def not_called(self) -> list[str]:
        """Layers that no batch has reached: they keep what they have."""
        called = set(self._states.called)
        return [layer.name for i, layer in enumerate(self.layers) if i not in called]

    def _borrow(self, index: int, layer: Layer) -> None:
        """Make the layer report its calls and, in a pass by batch, leave its moments in the vector."""
        mean, var = self._moments[:, self._bounds[index] : self._bounds[index + 1]]
        trusted = is_trusted(layer.module) and layer.running_var.dtype == self._moments.dtype
        if not (self.by_batch and trusted):
            self._close.add(index)
        if not self.by_batch:
            self._scope.watch(layer, self._watched(index, layer, None))
        elif trusted:
            self._scope.lend(layer, mean, var, 1.0, self._watched(index, layer, (mean, var)))
        else:  # buffers of the layer's own precision, which nobody reads
            own = torch.zeros_like(layer.running_mean), torch.zeros_like(layer.running_var)
            self._scope.lend(layer, *own, 0.0, self._watched(index, layer, None))

    def _watched(self, index: int, layer: Layer, lent: tuple[Tensor, Tensor] | None) -> Callable[..., Any]:
        """The layer's forward, noting the call; its moments come from the kernel or from a close look."""
        forward, empty = forward_of(layer.module, lent), of_nothing(layer.module)
        pending, close, n_channels = self._pending, self._close, layer.n_channels
        mean, var = self._moments[:, self._bounds[index] : self._bounds[index + 1]]

        def watched(*args: Any, **kwargs: Any) -> Any:
            x: Tensor = args[0] if args else next(iter(kwargs.values()))
            count = x.numel() // n_channels  # (images, channels, ...)
            if not count:  # no region in any image: nothing to learn, nothing to normalise
                return empty(*args, **kwargs)
            if count < 2 or index in pending:
                self._second_thoughts(index, count)
            pending[index] = count
            if index in close or count > MANY:
                if lent is None:  # before the layer may change its input in place
                    moments_into(mean, var, x)
                    return forward(*args, **kwargs)
                y = forward(*args, **kwargs)
                moments_into(mean, var, x)
                return y
            return forward(*args, **kwargs)

        return watched

    def _second_thoughts(self, index: int, count: int) -> None:
        """Too few values, or a second call in one batch: then the vector still holds the first."""
        if count < 2 and self.by_batch:
            raise BnrecalError(
                f"batch {self.n_updates}: {self.layers[index].name} gets one value per channel, which has "
                "no variance; use larger batches or leave out the short last one"
            )
        if index in self._pending:
            self._absorb((index,))
            del self._pending[index]  # the new call comes last in the order

    def _absorb(self, indices: Indices) -> None:
        """Take the moments that these layers' sources hold into the states of this step."""
        if not indices:
            return
        if len(indices) == len(self.layers):
            both = self._moments.to(torch.float64, copy=True)
        else:
            parts = [self._moments[:, self._bounds[i] : self._bounds[i + 1]] for i in indices]
            both = torch.cat(parts, 1).to(torch.float64)
        self._calls_now += len(indices)
        mean, var = both
        # not (a <= 0) finds NaN and infinity too, all in one small step
        if not (mean.square() - FAR**2 * var).max().item() <= 0:
            self._look_at(indices)
        moments = Moments(self._rule.counts(self._pending, indices), mean, var)
        if self.record is not None:
            self._keep(indices, moments)
        self._next = self._rule.update(self._next, indices, moments)

    def _look_at(self, indices: Indices) -> None:
        """Refuse NaN and infinity, naming the first layer called; note layers with far-off means."""
        for index in sorted(indices, key=list(self._pending).index):
            mean, var = self._moments[:, self._bounds[index] : self._bounds[index + 1]]
            if not bool(mean.isfinite().all() and var.isfinite().all()):
                name = self.layers[index].name
                raise NotANumberError(f"batch {self.n_updates}: NaN or infinity reaches {name}")
            if bool((mean.double().square() > FAR**2 * var.double()).any()):
                self._far.add(index)


def _is_double(layer: Layer) -> bool:
    return layer.running_var.dtype == torch.float64
