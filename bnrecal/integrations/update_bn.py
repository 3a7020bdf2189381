"""torch.optim.swa_utils.update_bn by another name, without its traps."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel

from bnrecal.recalibration.batches import Forward
from bnrecal.recalibration.layers import inner_of
from bnrecal.recalibration.recalibrate import recalibrate
from bnrecal.recalibration.result import Recalibration
from bnrecal.recalibration.statistics import Statistics

Device = int | str | torch.device


def update_bn(
    loader: Iterable[Any],
    model: nn.Module,
    device: Device | None = None,
    *,
    forward: Forward | None = None,
    **settings: Any,
) -> Recalibration:
    """Re-estimate the running statistics of `model` from `loader`: torch.optim.swa_utils.update_bn's place.

    Takes the same arguments in the same order. As in torch's, a batch that is a list or tuple stands for
    its first element, unless `forward` says otherwise, and `device` is where batches are moved. An
    AveragedModel is taken by its inner module, whatever the wrapper's own mode. With
    estimator="cumulative" the statistics are torch's, num_batches_tracked included. Otherwise than there:

    - "pooled" is the default, as in `recalibrate`: a short last batch has the weight of its images, and the
      variance between batches counts;
    - dropout and everything that is not BatchNorm runs as in evaluation, without gradients;
    - a BatchNorm that no batch reaches, or that is in eval mode inside a model in train mode, keeps its
      statistics, and the report says so (torch's resets both);
    - whatever is raised on the way, the model is as it was.

    Args:
        loader: batches; read once (several times by "exact").
        model: any module; its modes stay as they are.
        device: where tensors of a batch are moved, also inside dicts, lists and tuples; None: nowhere.
        forward: forward(model, batch) for any other way to run a batch, such as model(**batch), or with
            torch.autocast inside (a torch.autocast around this call works as well).
        settings: of `recalibrate`: estimator, momentum, n_samples, progress, ...

    Returns what was done; for a model that has no BatchNorm, where torch's is silent, a report of no
    layers.

    Raises:
        BnrecalError: as `recalibrate` does, and for BatchNorms none of which can be re-estimated.

    >>> import bnrecal
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    >>> loader = torch.utils.data.DataLoader(
    ...     torch.utils.data.TensorDataset(torch.randn(20, 3), torch.arange(20)), batch_size=8
    ... )
    >>> report = bnrecal.update_bn(loader, model)
    >>> report.layers, report.n_samples, model.training
    (('1',), 20, True)
    """
    model = inner_of(model)
    if isinstance(model, AveragedModel):
        model = inner_of(model.module)
    if not any(isinstance(module, _BatchNorm) or _may_hide_some(module) for module in model.modules()):
        none = torch.empty(0, dtype=torch.float64)
        return Recalibration(0, 0, 0, 0.0, (), {}, Statistics((), (), none, none, 0, ()))
    batches: Iterable[Any] = loader
    if forward is None or device is not None:
        batches = _Prepared(loader, device, first=forward is None)
        if iter(loader) is loader:  # it can be read once, and `recalibrate` must see that
            batches = iter(batches)
    return recalibrate(model, batches, forward=forward, **settings)


def _may_hide_some(module: nn.Module) -> bool:
    """Whether BatchNorms are no modules here; `recalibrate` says what to do instead."""
    return isinstance(module, torch.jit.ScriptModule | GraphModule)


class _Prepared:
    """The loader's batches, as often as it gives them: on the device, lists and tuples by their first."""

    def __init__(self, loader: Iterable[Any], device: Device | None, first: bool) -> None:
        self.loader, self.device, self.first = loader, device, first

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            if self.first and isinstance(batch, list | tuple):
                batch = batch[0] if batch else batch
            yield batch if self.device is None else _moved(batch, self.device)


def _moved(part: Any, device: Device) -> Any:
    """The same with every tensor in it on the device; what knows how to move itself does so."""
    if isinstance(part, Tensor) or hasattr(part, "to"):
        return part.to(device)
    if isinstance(part, Mapping):
        return {name: _moved(value, device) for name, value in part.items()}
    if isinstance(part, tuple) and hasattr(part, "_fields"):
        return type(part)(*(_moved(item, device) for item in part))
    if isinstance(part, list | tuple):
        return type(part)(_moved(item, device) for item in part)
    return part
