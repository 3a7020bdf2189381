"""The update pass: a model walked over batches, its BatchNorms' moments caught on the way.

How moments are caught without a second look at the activations: with momentum 1 PyTorch's own
train-mode kernel writes the batch's mean and unbiased variance, which it computes anyway to
normalise, into the running buffers. The walk reads all layers' buffers at once after each batch and
hands them, in float64, to the estimator; on leaving, the buffers are put back.
"""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnrecal.errors import BnrecalError
from bnrecal.recalibration.batches import Forward, call
from bnrecal.recalibration.estimators import Estimator, Moments, State
from bnrecal.recalibration.layers import Layer, find_layers
from bnrecal.recalibration.scope import Restored
from bnrecal.recalibration.statistics import Statistics

_HALF = (torch.float16, torch.bfloat16)


class Walk:
    """A scope in which `step` runs one batch after another and `statistics` tells what they gave.

    Args:
        model: any module with at least one BatchNorm that keeps running statistics.
        estimator: see estimators.py.
        forward: forward(model, batch) runs a batch; by default model(batch) or its first element.
        reset: start from mean 0 and variance 1, else go on from the statistics the model has.
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
    ) -> None:
        self.model, self.estimator, self.forward = model, estimator, forward
        self.reset, self.by_batch = reset, by_batch
        self.layers, self.left_alone = find_layers(model)
        self.n_updates = 0
        self._scope = Restored(model, self.layers)
        self._states: dict[int, State] = {}  # of called layers outside the block
        self._block: tuple[int, ...] = ()  # layers whose states stand side by side in _block_state
        self._block_state: State = ()
        self._pending: dict[int, int] = {}  # layer called in this batch -> values per channel
        self.record: list[dict[str, Moments]] | None = None  # set to [] to keep every step's moments
        self._counts: tuple[tuple[int, ...], Tensor] = ((), torch.empty(0))
        self._sources: dict[int, tuple[Tensor, Tensor]] = {}  # where a layer's moments appear

    def __enter__(self) -> Self:
        self._scope.__enter__()
        for index, layer in enumerate(self.layers):
            by_kernel = self.by_batch and layer.running_var.dtype not in _HALF
            layer.module.training = self.by_batch
            layer.module.momentum = 1.0 if by_kernel else 0.0
            if by_kernel:
                source = (layer.running_mean, layer.running_var)
            else:
                wide = torch.promote_types(layer.running_var.dtype, torch.float32)
                scratch = torch.empty_like(layer.running_mean, dtype=wide)
                source = (scratch, torch.empty_like(scratch))
            for tensor in source:  # the kernel adds 0 x what stands there, and 0 x NaN is NaN
                tensor.zero_()
            self._sources[index] = source
            watch = self._watch(index, layer, by_kernel)
            self._scope.hooks.append(layer.module.register_forward_pre_hook(watch))
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
        self._pending.clear()
        try:
            output = self.forward(self.model, batch)
        except BnrecalError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise BnrecalError(f"batch {self.n_updates}: the model raised {what}") from error
        self._absorb(tuple(self._pending))
        self.n_updates += 1
        return output

    def _keep(self, indices: tuple[int, ...], moments: Moments) -> None:
        """Append these layers' moments to the record, as one entry per call."""
        assert self.record is not None
        layers = [self.layers[i] for i in indices]
        sizes = [layer.n_channels for layer in layers]
        parts = zip(*(torch.split(t, sizes) for t in (moments.count, moments.mean, moments.var)), strict=True)
        entry = {layer.name: Moments(*part) for layer, part in zip(layers, parts, strict=True)}
        self.record.append(entry)

    def statistics(self) -> Statistics:
        """The estimate after the batches so far, for the layers that were called."""
        called = self._called()
        mean, var = self.estimator.compute(self._gather(called))
        layers = [self.layers[i] for i in called]
        names, sizes = (layer.name for layer in layers), (layer.n_channels for layer in layers)
        return Statistics(tuple(names), tuple(sizes), mean, var, self.n_updates)

    def states(self) -> dict[str, State]:
        """The estimator's state of each layer that was called."""
        self._gather(())
        return {self.layers[i].name: state for i, state in self._states.items()}

    @property
    def not_called(self) -> list[str]:
        """Layers that no batch has reached: they keep what they have."""
        called = set(self._called())
        return [layer.name for i, layer in enumerate(self.layers) if i not in called]

    def _called(self) -> tuple[int, ...]:
        return (*self._block, *(i for i in self._states if i not in self._block))

    def _watch(
        self, index: int, layer: Layer, by_kernel: bool
    ) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def before_call(module: nn.Module, args: tuple[Any, ...]) -> None:
            x: Tensor = args[0]
            count = x.numel() // x.shape[1] if x.numel() else 0  # (images, channels, ...)
            if count < (2 if self.by_batch else 1):
                values = "one value" if count else "no value"
                raise BnrecalError(
                    f"batch {self.n_updates}: {layer.name} gets {values} per channel, which has no "
                    "variance; use larger batches or leave out the short last one"
                )
            if index in self._pending:  # called again: its source holds the earlier call
                self._absorb((index,))
                del self._pending[index]  # the new call comes last in the order
            self._pending[index] = count
            if not by_kernel:
                _moments_into(*self._sources[index], x)

        return before_call

    def _absorb(self, indices: tuple[int, ...]) -> None:
        """Take the moments that these layers' sources hold into their states."""
        if not indices:
            return
        sources = [self._sources[i] for i in indices]
        mean = torch.cat([mean for mean, _ in sources]).double()
        var = torch.cat([var for _, var in sources]).double()
        if not bool(torch.isfinite(mean.sum() + var.sum())):
            raise BnrecalError(f"batch {self.n_updates}: NaN or infinity reaches {self._culprit(indices)}")
        state = self._gather(indices)
        moments = Moments(self._count(indices, mean.device), mean, var)
        if self.record is not None:
            self._keep(indices, moments)
        self._block, self._block_state = indices, self.estimator.update(state, moments)

    def _count(self, indices: Sequence[int], device: torch.device) -> Tensor:
        """Values per channel of these layers' pending calls, for each channel; kept while the same."""
        key = (*indices, *(self._pending[i] for i in indices))
        if self._counts[0] != key:
            sizes = torch.tensor([self.layers[i].n_channels for i in indices])
            counts = torch.tensor([self._pending[i] for i in indices], dtype=torch.float64)
            self._counts = (key, counts.repeat_interleave(sizes).to(device))
        return self._counts[1]

    def _culprit(self, indices: Sequence[int]) -> str:
        """The first of these layers, in the order of their calls, that met something not finite."""
        bad = [i for i in indices if not all(bool(s.isfinite().all()) for s in self._sources[i])]
        return self.layers[bad[0]].name

    def _gather(self, indices: tuple[int, ...]) -> State:
        """The states of these layers side by side; scattered and joined anew only when they change."""
        if indices == self._block:
            return self._block_state
        if self._block:
            sizes = [self.layers[i].n_channels for i in self._block]
            parts = zip(*(torch.split(part, sizes) for part in self._block_state), strict=True)
            self._states.update(zip(self._block, parts, strict=True))
            self._block, self._block_state = (), ()
        chosen = [self._states[i] if i in self._states else self._start(i) for i in indices]
        return tuple(torch.cat(parts) for parts in zip(*chosen, strict=True))

    def _start(self, index: int) -> State:
        mean, var, *tracked = (buffer.double() for buffer in self._scope.before[index])
        if self.reset:
            return self.estimator.start(torch.zeros_like(mean), torch.ones_like(var))
        return self.estimator.resume(mean, var, int(tracked[0]) if tracked else 0)


def _moments_into(mean: Tensor, var: Tensor, x: Tensor) -> None:
    """Write mean and unbiased variance of x (images, channels, ...) into the two tensors.

    PyTorch's train-mode kernel does it in one stable sweep, here in the precision of the tensors. Of a
    single value per channel the variance is written as 0, so that M2 = var (count - 1) holds.
    """
    if x.numel() == x.shape[1]:
        mean.copy_(x.flatten())
        var.zero_()
    else:
        F.batch_norm(x.to(mean.dtype), mean, var, None, None, True, 1.0, 1e-5)
