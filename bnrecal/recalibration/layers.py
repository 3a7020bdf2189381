"""Which layers of a model keep running statistics, and why others are left alone."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from bnrecal.errors import BnrecalError
from bnrecal.recalibration.converted import EXPORTED, NONE, check_module, check_quantisation, normalises
from bnrecal.recalibration.frozen import Frozen, frozen_layers, reason_for


@dataclass(frozen=True)
class Layer:
    """A BatchNorm to re-estimate, under its first name in the model."""

    name: str
    module: _BatchNorm

    @property
    def running_mean(self) -> Tensor:
        assert self.module.running_mean is not None
        return self.module.running_mean

    @property
    def running_var(self) -> Tensor:
        assert self.module.running_var is not None
        return self.module.running_var

    @property
    def n_channels(self) -> int:
        return self.running_mean.numel()

    @property
    def buffer_names(self) -> tuple[str, str, str]:
        return buffer_names(self.module)


def buffer_names(module: nn.Module) -> tuple[str, str, str]:
    """Where a BatchNorm keeps mean, spread and count.

    The spread is running_var, or running_std = sqrt(var + eps) in layers that keep that instead (Batch
    Renormalization); such a layer's `running_var` is derived from it.
    """
    spread = "running_std" if "running_std" in module._buffers else "running_var"
    return "running_mean", spread, "num_batches_tracked"


def find_layers(model: nn.Module, frozen: Frozen = "auto") -> tuple[list[Layer], dict[str, str]]:
    """(layers to re-estimate, {name of a normalisation layer left alone: why}).

    `frozen` says which BatchNorms keep what they have, as in frozen.py. Raises BnrecalError if no layer
    is live, and for names that are not there.
    """
    check_quantisation(model)
    kept = frozen_layers(model, frozen)
    live: list[Layer] = []
    left: dict[str, str] = {}
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            if module.running_mean is None or module.running_var is None:
                left[name] = "keeps no running statistics (track_running_stats=False)"
            elif name in kept:
                left[name] = reason_for(frozen)
            else:
                live.append(Layer(name, module))
        elif isinstance(module, nn.GroupNorm | nn.LayerNorm | _InstanceNorm):
            left[name] = f"nothing to recalibrate: {type(module).__name__} normalises each image by itself"
        elif type(module).__name__.startswith("FrozenBatchNorm"):
            left[name] = "frozen by its type: its statistics are constants"
        elif isinstance(module, torch.jit.ScriptModule) and not name:
            left[name] = "TorchScript: recalibrate the module before scripting it"
        elif isinstance(module, GraphModule) and normalises(module):
            left[name] = EXPORTED
    _check_apart(live)
    if not live:
        by_reason: dict[str, list[str]] = {}
        for name, reason in left.items():
            by_reason.setdefault(reason, []).append(name or "it")
        why = "; ".join(
            f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {reason}"
            for reason, names in by_reason.items()
        )
        raise BnrecalError(f"the model has no BatchNorm to recalibrate ({why or NONE})")
    return live, left


def _check_apart(layers: list[Layer]) -> None:
    """Refuse layers that share a buffer: each would overwrite what the other was given."""
    seen: dict[tuple[object, int], str] = {}
    for layer in layers:
        where = layer.running_mean.device, layer.running_mean.data_ptr()
        if where in seen and where[1]:
            raise BnrecalError(
                f"{seen[where]} and {layer.name} share one running_mean, so neither can have its own; give "
                "each its buffers, or use one module in both places"
            )
        seen[where] = layer.name


def inner_of(model: nn.Module) -> nn.Module:
    """The module inside DataParallel's, DistributedDataParallel's and torch.compile's wrappers.

    Raises BnrecalError for what is no module.
    """
    check_module(model)
    while True:
        compiled = getattr(model, "_orig_mod", None)
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(compiled, nn.Module):
            model = compiled
        else:
            return model
