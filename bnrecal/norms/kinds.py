"""The table of norms: what each takes, and the layer it puts in a BatchNorm's place."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnrecal.norms.ghost import GhostBatchNorm, GhostBatchNorm1d, GhostBatchNorm2d, GhostBatchNorm3d
from bnrecal.norms.grouping import check_norm_batch

Numbers = dict[str, Any]  # by name, those that were given


@dataclass(frozen=True)
class Kind:
    """One norm."""

    takes: tuple[str, ...]
    # (model, its BatchNorms by name, numbers) -> their successors by the same names
    replace: Callable[[nn.Module, dict[str, _BatchNorm], Numbers], dict[str, nn.Module]]


def dimensions(module: _BatchNorm) -> int | None:
    """1, 2 or 3 as in the layer's type; None for a layer that takes any."""
    for n, kind in enumerate((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), start=1):
        if isinstance(module, kind):
            return n
    return None


def succeed(old: _BatchNorm, new: nn.Module, name: str) -> nn.Module:
    """Give the new layer the old one's parameters, the buffers that both have, drop and activation."""
    for key, parameter in old._parameters.items():
        if key in new._parameters:
            new._parameters[key] = parameter
    for key, buffer in old._buffers.items():
        if key in new._buffers:
            new._buffers[key] = buffer
    for key, child in old._modules.items():
        new.add_module(key, child)
    new.layer_name = name  # type: ignore[assignment]
    return new


def settings(old: _BatchNorm) -> dict[str, Any]:
    """The constructor's arguments of a layer like this one."""
    return {
        "num_features": old.num_features,
        "eps": old.eps,
        "momentum": old.momentum,
        "affine": old.affine,
        "track_running_stats": old.track_running_stats,
    }


_GHOSTS = {None: GhostBatchNorm, 1: GhostBatchNorm1d, 2: GhostBatchNorm2d, 3: GhostBatchNorm3d}
_PLAIN = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def _batchnorm(model: nn.Module, found: dict[str, _BatchNorm], numbers: Numbers) -> dict[str, nn.Module]:
    check_norm_batch(numbers.get("norm_batch"))

    def successor(name: str, old: _BatchNorm) -> nn.Module:
        plain = type(old).__module__.startswith("torch.")
        if not numbers and plain:
            return old
        new = _GHOSTS[dimensions(old)](**settings(old), **numbers)
        return succeed(old, new, name)

    return {name: successor(name, old) for name, old in found.items()}


NORMS: dict[str, Kind] = {
    "bn": Kind(("norm_batch",), _batchnorm),
}
