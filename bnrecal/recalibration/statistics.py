"""Estimated running statistics of some layers, and how they get into a model."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bnrecal.errors import BnrecalError
from bnrecal.recalibration.layers import buffer_names


@dataclass(frozen=True)
class Statistics:
    """Mean and variance of the named layers, their channels side by side; float64, shape (channels,).

    >>> import bnrecal
    >>> model = nn.Sequential(nn.BatchNorm2d(1))
    >>> report = bnrecal.recalibrate(model, [torch.arange(4.0).view(4, 1, 1, 1)])
    >>> report.statistics.by_name()
    {'0': (tensor([1.5000], dtype=torch.float64), tensor([1.6667], dtype=torch.float64))}
    >>> other = nn.Sequential(nn.BatchNorm2d(1))
    >>> report.statistics.write_to(other)  # into any model with layers of these names
    >>> other[0].running_mean
    tensor([1.5000])
    """

    layers: tuple[str, ...]
    sizes: tuple[int, ...]  # channels of each layer
    mean: Tensor
    var: Tensor  # as it belongs into running_var
    n_updates: int  # batches behind them
    tracked: tuple[int, ...]  # num_batches_tracked of each layer, which counts calls

    def by_name(self) -> dict[str, tuple[Tensor, Tensor]]:
        """{layer name: (mean, variance)}."""
        sizes = list(self.sizes)
        means, variances = torch.split(self.mean, sizes), torch.split(self.var, sizes)
        return dict(zip(self.layers, zip(means, variances, strict=True), strict=True))

    @torch.no_grad()
    def write_to(self, model: nn.Module) -> None:
        """Copy into the buffers of the layers of these names in `model`, never replacing a tensor.

        All or nothing: raises BnrecalError, naming the layer, if a value does not fit its buffer's
        precision or a buffer cannot be written. Layers not named here stay bit-identical.
        """
        todo: list[tuple[Tensor, Tensor]] = []
        for (name, (mean, var)), tracked in zip(self.by_name().items(), self.tracked, strict=True):
            module = model.get_submodule(name)
            buffers, names = module._buffers, buffer_names(module)
            spread = (var + module.eps).sqrt() if names[1] == "running_std" else var  # type: ignore[operator]
            for key, value in zip(names, (mean, spread), strict=False):
                buffer = buffers[key]
                assert buffer is not None
                fitted = value.to(buffer)
                if bool(value.isfinite().all()) and not bool(fitted.isfinite().all()):
                    raise BnrecalError(f"{name}.{key}: {value.abs().max():.3g} does not fit {buffer.dtype}")
                if buffer.is_inference() and not torch.is_inference_mode_enabled():
                    raise BnrecalError(f"{name}.{key} was made in inference mode and cannot be written")
                todo.append((buffer, fitted))
            counter = buffers.get("num_batches_tracked")
            if counter is not None:
                todo.append((counter, torch.full_like(counter, tracked)))
        for buffer, value in todo:
            buffer.copy_(value)
