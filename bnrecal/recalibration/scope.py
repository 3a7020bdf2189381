"""A model is changed only inside a scope that puts everything back, whatever happens."""

import types
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from bnrecal.recalibration.layers import Layer


class Restored:
    """On leaving, modes, momenta, hooks and the layers' buffers are what they were on entering.

    Inside, every module is in eval mode: dropout and all that is not BatchNorm runs as in evaluation.
    Modes are set flag by flag, since a model's own train() may do more than that.
    """

    def __init__(self, model: nn.Module, layers: Sequence[Layer]) -> None:
        self.model, self.layers = model, layers
        self.hooks: list[RemovableHandle] = []  # whoever adds a hook to the model notes it here

    def __enter__(self) -> Self:
        self._modes = [(module, module.training) for module in self.model.modules()]
        self._momenta = [layer.module.momentum for layer in self.layers]
        self.before = copies(self.layers)
        for module, _ in self._modes:
            module.training = False
        for layer in self.layers:
            if isinstance(layer.module, nn.SyncBatchNorm):  # by batch of this process: see merge.py
                own = types.MethodType(_BatchNorm.forward, layer.module)
                object.__setattr__(layer.module, "forward", own)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for hook in self.hooks:
            hook.remove()
        for module, training in self._modes:
            module.training = training
        for layer, momentum in zip(self.layers, self._momenta, strict=True):
            layer.module.momentum = momentum
            if isinstance(layer.module, nn.SyncBatchNorm):
                layer.module.__dict__.pop("forward", None)
        put_back(self.layers, self.before)


Buffers = list[tuple[Tensor, ...]]  # running mean, running variance and, if kept, batches tracked


def copies(layers: Sequence[Layer]) -> Buffers:
    """Copies of the layers' buffers as they are now."""
    return [tuple(buffer.detach().clone() for buffer in _buffers(layer)) for layer in layers]


@torch.no_grad()
def put_back(layers: Sequence[Layer], before: Buffers) -> None:
    """Copy what `copies` gave into the layers' own buffers."""
    for layer, saved in zip(layers, before, strict=True):
        for buffer, copy in zip(_buffers(layer), saved, strict=True):
            buffer.copy_(copy)


def _buffers(layer: Layer) -> tuple[Tensor, ...]:
    tracked = layer.module.num_batches_tracked
    always = (layer.running_mean, layer.running_var)
    return always if tracked is None else (*always, tracked)
