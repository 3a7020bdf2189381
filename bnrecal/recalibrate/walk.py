"""The update pass: a model walked over batches, its BatchNorms' moments caught on the way.

Inside the scope the live BatchNorms run in train mode and everything else in eval mode, whatever
happens afterwards: modes, momenta, hooks and buffers are put back on leaving.

How moments are caught without a second look at the activations: with momentum 1 PyTorch's own
kernel writes the batch's mean and unbiased variance into the running buffers, which it computes
anyway to normalise. The walk reads all layers' buffers at once after each batch and hands them, in
float64, to the estimator.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnrecal.errors import BnrecalError
from bnrecal.recalibrate.estimators import Estimator, Moments, State
from bnrecal.recalibrate.layers import Layer, find_layers

Forward = Callable[[nn.Module, Any], Any]


@dataclass(frozen=True)
class Statistics:
    """Estimated statistics of some layers, their channels side by side; float64, shape (channels,)."""

    layers: tuple[Layer, ...]
    mean: Tensor
    var: Tensor  # as it belongs into running_var
    n_updates: int  # batches behind them

    def write_to(self, model: nn.Module) -> None:
        """Copy into the buffers of the layers of these names in `model` (never replacing a tensor)."""
        for name, (mean, var) in self.by_name().items():
            norm = model.get_submodule(name)
            assert isinstance(norm, _BatchNorm)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(var)
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.fill_(self.n_updates)

    def by_name(self) -> dict[str, tuple[Tensor, Tensor]]:
        """{layer name: (mean, variance)}."""
        sizes = [layer.running_mean.numel() for layer in self.layers]
        pairs = zip(torch.split(self.mean, sizes), torch.split(self.var, sizes), strict=True)
        return {layer.name: pair for layer, pair in zip(self.layers, pairs, strict=True)}


def call(model: nn.Module, batch: Any) -> Any:
    """The default way to run a batch: model(batch), or its first element if it is a tuple or list."""
    return model(batch[0] if isinstance(batch, tuple | list) else batch)


class Walk:
    """A scope in which `step` runs one batch after another and `statistics` tells what they gave.

    Args:
        model: any module with at least one BatchNorm that keeps running statistics.
        estimator: see `estimators`.
        forward: how to run a batch; `call` by default.
        reset: start from mean 0 and variance 1, else from the statistics the model has.

    Raises BnrecalError if the model has no such BatchNorm, if a layer gets a single value per
    channel, and for NaN or infinity, naming the batch and the first layer that met it.
    """

    def __init__(
        self, model: nn.Module, estimator: Estimator, forward: Forward = call, reset: bool = True
    ) -> None:
        self.model, self.estimator, self.forward, self.reset = model, estimator, forward, reset
        self.layers, self.left_alone = find_layers(model)
        if not self.layers:
            why = "; ".join(f"{name}: {reason}" for name, reason in self.left_alone.items())
            raise BnrecalError(f"the model has no BatchNorm to recalibrate ({why or 'none at all'})")
        self.n_updates = 0
        self._states: dict[int, State] = {}  # of layers not in the block
        self._block: tuple[int, ...] = ()  # layers whose states stand side by side in _block_state
        self._block_state: State = ()
        self._pending: dict[int, int] = {}  # layer called in this batch -> values per channel
        self._scratch: dict[int, tuple[Tensor, Tensor]] = {}  # moments of layers with half buffers

    def __enter__(self) -> Self:
        self._modes = [(module, module.training) for module in self.model.modules()]
        self._momenta = [layer.module.momentum for layer in self.layers]
        self._before = [tuple(b.detach().clone() for b in _buffers(layer)) for layer in self.layers]
        for module, _ in self._modes:
            module.training = False
        self._hooks = []
        for index, layer in enumerate(self.layers):
            layer.module.training = True
            self._hooks.append(layer.module.register_forward_pre_hook(self._watch(index, layer)))
            if layer.running_var.dtype in (torch.float16, torch.bfloat16):
                mean, var = layer.running_mean.float(), layer.running_var.float()
                self._scratch[index] = (mean, var)
                layer.module.momentum = 0.0
            else:
                layer.module.momentum = 1.0
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        for module, training in self._modes:
            module.training = training
        for layer, momentum, before in zip(self.layers, self._momenta, self._before, strict=True):
            layer.module.momentum = momentum
            for buffer, copy in zip(_buffers(layer), before, strict=True):
                buffer.copy_(copy)

    @torch.no_grad()
    def step(self, batch: Any) -> Any:
        """Run one batch, take its moments into the estimate, return what `forward` returned."""
        self._pending.clear()
        output = self.forward(self.model, batch)
        self._absorb(tuple(self._pending))
        self.n_updates += 1
        return output

    def statistics(self) -> Statistics:
        """The estimate after the batches so far, for the layers that were called."""
        indices = self._block + tuple(i for i in self._states if i not in self._block)
        mean, var = self.estimator.compute(self._gather(indices))
        return Statistics(tuple(self.layers[i] for i in indices), mean, var, self.n_updates)

    @property
    def not_called(self) -> list[str]:
        """Layers that no batch has reached: they are left bit-identical."""
        called = {*self._block, *self._states}
        return [layer.name for i, layer in enumerate(self.layers) if i not in called]

    def _watch(self, index: int, layer: Layer) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def before_call(module: nn.Module, args: tuple[Any, ...]) -> None:
            x: Tensor = args[0]
            count = x.numel() // x.shape[1]  # (images, channels, ...)
            if count == 1:
                raise BnrecalError(
                    f"batch {self.n_updates}: {layer.name} gets one value per channel, which has no "
                    "variance; use larger batches or leave out the short last one"
                )
            if index in self._pending:  # called again: its buffers hold the earlier call
                self._absorb((index,))
                del self._pending[index]  # the last call counts at its place in the order
            self._pending[index] = count
            if index in self._scratch:
                var, mean = torch.var_mean(x.float(), [0, *range(2, x.dim())])
                for kept, new in zip(self._scratch[index], (mean, var), strict=True):
                    kept.copy_(new)

        return before_call

    def _absorb(self, indices: tuple[int, ...]) -> None:
        """Take the moments that these layers hold into their states."""
        if not indices:
            return
        sizes = [self.layers[i].running_mean.numel() for i in indices]
        sources = [self._scratch.get(i) or self._running(i) for i in indices]
        mean = torch.cat([mean for mean, _ in sources]).double()
        var = torch.cat([var for _, var in sources]).double()
        counts = torch.tensor([self._pending[i] for i in indices], dtype=torch.float64)
        count = counts.repeat_interleave(torch.tensor(sizes)).to(mean.device)
        if not bool(torch.isfinite(mean.sum() + var.sum())):
            self._refuse(indices, torch.split(mean, sizes), torch.split(var, sizes))
        state = self.estimator.update(self._gather(indices), Moments(count, mean, var))
        self._block, self._block_state = indices, state

    def _running(self, index: int) -> tuple[Tensor, Tensor]:
        return self.layers[index].running_mean, self.layers[index].running_var

    def _refuse(self, indices: tuple[int, ...], means: Any, variances: Any) -> None:
        for index, mean, var in zip(indices, means, variances, strict=True):
            if not bool(torch.isfinite(mean).all() and torch.isfinite(var).all()):
                name = self.layers[index].name
                raise BnrecalError(f"batch {self.n_updates}: NaN or infinity reaches {name}")

    def _gather(self, indices: tuple[int, ...]) -> State:
        """The states of these layers side by side; scattered and joined anew only when they change."""
        if indices == self._block:
            return self._block_state
        sizes = [self.layers[i].running_mean.numel() for i in self._block]
        if self._block:
            parts = zip(*(torch.split(part, sizes) for part in self._block_state), strict=True)
            self._states.update(zip(self._block, parts, strict=True))
        chosen = [self._states[i] if i in self._states else self._start(i) for i in indices]
        return tuple(torch.cat(parts) for parts in zip(*chosen, strict=True))

    def _start(self, index: int) -> State:
        layer = self.layers[index]
        if self.reset:
            zero = torch.zeros_like(layer.running_mean, dtype=torch.float64)
            return self.estimator.start(zero, zero + 1)
        mean, var = self._before[index][:2]
        return self.estimator.start(mean.double(), var.double())


def _buffers(layer: Layer) -> tuple[Tensor, ...]:
    tracked = layer.module.num_batches_tracked
    always = (layer.running_mean, layer.running_var)
    return always if tracked is None else (*always, tracked)
