"""A model is changed only inside a scope that puts everything back, whatever happens."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from bnrecal.recalibration.layers import Layer, buffer_names


class Borrowed:
    """The model with its layers' statistics out of harm's way.

    Inside, every module is in eval mode, so that dropout and all that is not BatchNorm runs as in
    evaluation (flag by flag, since a model's own train() may do more), and `lend` may give a layer
    other buffers, another momentum and another forward. The layers' own tensors are not touched: on
    leaving they stand where they stood, and modes, momenta and forwards are what they were.
    """

    def __init__(self, model: nn.Module, layers: Sequence[Layer]) -> None:
        self.model, self.layers = model, layers

    def __enter__(self) -> Self:
        self._modes = [(module, module.training) for module in self.model.modules()]
        self._own = [
            (
                layer.module,
                layer.module.momentum,
                layer.module.track_running_stats,
                layer.module.__dict__.get("forward"),
                _buffers(layer),
            )
            for layer in self.layers
        ]
        for module, _ in self._modes:
            module.training = False
        return self

    def lend(
        self, layer: Layer, mean: Tensor, var: Tensor, momentum: float, forward: Callable[..., Any]
    ) -> None:
        """Put the layer into train mode on these buffers; batches it counts are forgotten."""
        module = layer.module
        module.training = True
        module.momentum = momentum
        module.track_running_stats = True  # where it was set to False later, buffers would not be written
        module.__dict__["forward"] = forward
        tracked = module.num_batches_tracked
        counter = None if tracked is None else tracked.clone()
        for name, buffer in zip(layer.buffer_names, (mean, var, counter), strict=True):
            module._buffers[name] = buffer

    def watch(self, layer: Layer, forward: Callable[..., Any]) -> None:
        """Give the layer another forward and leave it in eval mode on its own statistics."""
        layer.module.__dict__["forward"] = forward

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for norm, momentum, tracks, forward, buffers in self._own:
            norm.momentum = momentum
            norm.track_running_stats = tracks
            norm._buffers.update(zip(buffer_names(norm), buffers, strict=True))
            norm.__dict__.pop("forward", None)
            if forward is not None:
                norm.__dict__["forward"] = forward
        for module, training in self._modes:
            module.training = training


Copies = list[tuple[Tensor | None, ...]]  # running mean, running variance, batches tracked


def copies(layers: Sequence[Layer]) -> Copies:
    """Copies of the layers' buffers as they are now."""
    return [tuple(None if b is None else b.detach().clone() for b in _buffers(layer)) for layer in layers]


@torch.no_grad()
def put_back(layers: Sequence[Layer], before: Copies) -> None:
    """Copy what `copies` gave into the layers' own buffers."""
    for layer, saved in zip(layers, before, strict=True):
        for buffer, copy in zip(_buffers(layer), saved, strict=True):
            if buffer is not None and copy is not None:
                buffer.copy_(copy)


def _buffers(layer: Layer) -> tuple[Tensor | None, ...]:
    return tuple(layer.module._buffers[name] for name in layer.buffer_names)
