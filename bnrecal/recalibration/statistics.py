"""Estimated running statistics of some layers, and how they get into a model."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(frozen=True)
class Statistics:
    """Mean and variance of the named layers, their channels side by side; float64, shape (channels,)."""

    layers: tuple[str, ...]
    sizes: tuple[int, ...]  # channels of each layer
    mean: Tensor
    var: Tensor  # as it belongs into running_var
    n_updates: int  # batches behind them

    def by_name(self) -> dict[str, tuple[Tensor, Tensor]]:
        """{layer name: (mean, variance)}."""
        sizes = list(self.sizes)
        means, variances = torch.split(self.mean, sizes), torch.split(self.var, sizes)
        return dict(zip(self.layers, zip(means, variances, strict=True), strict=True))

    @torch.no_grad()
    def write_to(self, model: nn.Module) -> None:
        """Copy into the buffers of the layers of these names in `model`, never replacing a tensor.

        num_batches_tracked becomes the number of batches. Other layers stay bit-identical.
        """
        for name, (mean, var) in self.by_name().items():
            norm = model.get_submodule(name)
            assert isinstance(norm, _BatchNorm)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(var)
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.fill_(self.n_updates)
