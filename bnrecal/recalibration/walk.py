"""The update pass: a model walked over batches, its BatchNorms' moments caught on the way.

How moments are caught without a second look at the activations: PyTorch's own train-mode kernel
computes each batch's mean and variance to normalise, and with momentum 1 writes them, the variance
unbiased, into the running buffers. For the length of a walk the layers are lent buffers that lie side
by side in one vector: after a batch the moments of all layers are there, and go to the estimator in
float64. The layers' own buffers are not touched.
"""

import itertools
import math
import types
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from bnrecal.errors import BnrecalError
from bnrecal.recalibration.batches import Forward, call
from bnrecal.recalibration.estimators import Estimator, Moments, State
from bnrecal.recalibration.layers import Layer, find_layers
from bnrecal.recalibration.scope import Borrowed
from bnrecal.recalibration.statistics import Statistics

_TORCH_TYPES = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


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
        self._own = [
            (layer.running_mean, layer.running_var, layer.module.num_batches_tracked) for layer in self.layers
        ]
        self.n_updates = 0
        self._scope = Borrowed(model, self.layers)
        self._states: dict[int, State] = {}  # of called layers outside the block
        self._block: tuple[int, ...] = ()  # layers whose states stand side by side in _block_state
        self._block_state: State = ()
        self._pending: dict[int, int] = {}  # layer called in this batch -> values per channel
        self.record: list[dict[str, Moments]] | None = None  # set to [] to keep every step's moments
        self._counts: tuple[tuple[int, ...], Tensor] = ((), torch.empty(0))
        # where the moments of all layers appear, side by side: (mean and variance, channels)
        wide = torch.float64 if any(_is_double(layer) for layer in self.layers) else torch.float32
        channels = sum(layer.n_channels for layer in self.layers)
        self._moments = torch.zeros(2, channels, dtype=wide, device=self.layers[0].running_mean.device)
        self._bounds = list(itertools.accumulate((layer.n_channels for layer in self.layers), initial=0))

    def __enter__(self) -> Self:
        self._scope.__enter__()
        for index, layer in enumerate(self.layers):
            mean, var = self._moments[:, self._bounds[index] : self._bounds[index + 1]]
            if not self.by_batch:
                self._scope.watch(layer, self._seeing(index, layer, mean, var))
            elif layer.running_var.dtype == self._moments.dtype:
                self._scope.lend(layer, mean, var, 1.0, self._counting(index, layer, (mean, var)))
            else:  # the kernel wants buffers of the layer's own precision, which limits the moments
                own = torch.zeros_like(layer.running_mean), torch.zeros_like(layer.running_var)
                self._scope.lend(layer, *own, 0.0, self._seeing(index, layer, mean, var))
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
        self._absorb(tuple(sorted(self._pending)))
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

    def _counting(
        self, index: int, layer: Layer, lent: tuple[Tensor, Tensor] | None = None
    ) -> Callable[[Tensor], Any]:
        """The layer's forward, noting how many values per channel it saw; its kernel gives the moments."""
        forward = _forward_of(layer.module, lent)
        pending, n_channels = self._pending, layer.n_channels

        def counting(x: Tensor) -> Any:
            count = x.numel() // n_channels  # (images, channels, ...)
            if count < 2 or index in pending:
                self._look_closer(index, count)
            pending[index] = count
            return forward(x)

        return counting

    def _seeing(self, index: int, layer: Layer, mean: Tensor, var: Tensor) -> Callable[[Tensor], Any]:
        """The layer's forward, with the moments of its input taken beforehand."""
        counting = self._counting(index, layer)

        def seeing(x: Tensor) -> Any:
            y = counting(x)
            moments_into(mean, var, x)
            return y

        return seeing

    def _look_closer(self, index: int, count: int) -> None:
        """Too few values, or a second call in one batch: then the vector still holds the first."""
        if count < (2 if self.by_batch else 1):
            values = "one value" if count else "no value"
            raise BnrecalError(
                f"batch {self.n_updates}: {self.layers[index].name} gets {values} per channel, which has "
                "no variance; use larger batches or leave out the short last one"
            )
        if index in self._pending:
            self._absorb((index,))
            del self._pending[index]  # the new call comes last in the order

    def _absorb(self, indices: tuple[int, ...]) -> None:
        """Take the moments that these layers' sources hold into their states."""
        if not indices:
            return
        if len(indices) == len(self.layers):
            both = self._moments.double()
        else:
            parts = [self._moments[:, self._bounds[i] : self._bounds[i + 1]] for i in indices]
            both = torch.cat(parts, 1).double()
        mean, var = both
        if not math.isfinite(torch.dot(mean, var).item()):  # NaN or infinity anywhere, in one small step
            self._refuse_what_is_not_finite()
        state = self._gather(indices)
        moments = Moments(self._count(indices, mean.device), mean, var)
        if self.record is not None:
            self._keep(indices, moments)
        self._block, self._block_state = indices, self.estimator.update(state, moments)

    def _refuse_what_is_not_finite(self) -> None:
        for index in self._pending:  # in the order of their calls
            moments = self._moments[:, self._bounds[index] : self._bounds[index + 1]]
            if not bool(moments.isfinite().all()):
                name = self.layers[index].name
                raise BnrecalError(f"batch {self.n_updates}: NaN or infinity reaches {name}")

    def _count(self, indices: Sequence[int], device: torch.device) -> Tensor:
        """Values per channel of these layers' pending calls, for each channel; kept while the same."""
        key = (*indices, *(self._pending[i] for i in indices))
        if self._counts[0] != key:
            sizes = torch.tensor([self.layers[i].n_channels for i in indices])
            counts = torch.tensor([self._pending[i] for i in indices], dtype=torch.float64)
            self._counts = (key, counts.repeat_interleave(sizes).to(device))
        return self._counts[1]

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
        own = self._own[index]
        mean, var = own[0].double(), own[1].double()
        if self.reset:
            return self.estimator.start(torch.zeros_like(mean), torch.ones_like(var))
        return self.estimator.resume(mean, var, 0 if own[2] is None else int(own[2]))


def _is_double(layer: Layer) -> bool:
    return layer.running_var.dtype == torch.float64


def _forward_of(module: _BatchNorm, lent: tuple[Tensor, Tensor] | None) -> Callable[[Tensor], Any]:
    """What the module computes, on the lent buffers if there are any.

    For torch's own types that is one kernel; calling it without the bookkeeping around it pays for
    the walk's own. A SyncBatchNorm runs as if it were alone: merge.py joins the processes.
    """
    if lent is not None and type(module) in _TORCH_TYPES and "forward" not in module.__dict__:
        weight, bias, eps = module.weight, module.bias, module.eps
        check: Callable[[Tensor], None] = module._check_input_dim
        cudnn = torch.backends.cudnn.enabled

        def kernel(x: Tensor) -> Tensor:
            check(x)
            return torch.batch_norm(x, weight, bias, *lent, True, 1.0, eps, cudnn)

        return kernel
    if isinstance(module, nn.SyncBatchNorm):
        return types.MethodType(_BatchNorm.forward, module)
    forward: Callable[[Tensor], Any] = module.forward
    return forward


def moments_into(mean: Tensor, var: Tensor, x: Tensor) -> None:
    """Write mean and unbiased variance of x (images, channels, ...) into the two tensors.

    PyTorch's train-mode kernel does it in one stable sweep, here in the precision of the tensors. Of a
    single value per channel the variance is written as 0, so that M2 = var (count - 1) holds.
    """
    if x.numel() == x.shape[1]:
        mean.copy_(x.flatten())
        var.zero_()
    else:
        F.batch_norm(x.to(mean.dtype), mean, var, None, None, True, 1.0, 1e-5)
