"""The table of norms: what each takes, and the layer it puts in a BatchNorm's place."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnrecal.errors import BnrecalError
from bnrecal.norms.cross_iteration import CrossIterationBatchNorm2d
from bnrecal.norms.evalnorm import EvalNorm, EvalNorm1d, EvalNorm2d, EvalNorm3d
from bnrecal.norms.feeding import feeding
from bnrecal.norms.frozen import FrozenBatchNorm
from bnrecal.norms.ghost import GhostBatchNorm, GhostBatchNorm1d, GhostBatchNorm2d, GhostBatchNorm3d
from bnrecal.norms.per_image import GroupNorm, InstanceNorm, LayerNorm
from bnrecal.norms.renorm import BatchRenorm, BatchRenorm1d, BatchRenorm2d, BatchRenorm3d

Numbers = dict[str, Any]  # by name, those that were given
DEFAULT_GROUPS = 32  # Wu & He (2018), section 4.1

_PLAIN: dict[int | None, type[nn.Module]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_GHOSTS: dict[int | None, type[nn.Module]] = {
    None: GhostBatchNorm,
    1: GhostBatchNorm1d,
    2: GhostBatchNorm2d,
    3: GhostBatchNorm3d,
}
_RENORMS: dict[int | None, type[nn.Module]] = {
    None: BatchRenorm,
    1: BatchRenorm1d,
    2: BatchRenorm2d,
    3: BatchRenorm3d,
}
_EVALNORMS: dict[int | None, type[nn.Module]] = {
    None: EvalNorm,
    1: EvalNorm1d,
    2: EvalNorm2d,
    3: EvalNorm3d,
}


@dataclass(frozen=True)
class Kind:
    """One norm."""

    takes: tuple[str, ...]
    # (name, BatchNorm, numbers, the convolution that feeds it) -> a layer of its size, without its state
    successor: Callable[[str, _BatchNorm, Numbers, nn.Conv2d | None], nn.Module]
    by_convolution: bool = False  # whether it needs one


def replacements(
    model: nn.Module, found: dict[str, _BatchNorm], norm: str, numbers: Numbers
) -> dict[str, nn.Module]:
    """The layers that take the place of these, by the same names, with their weights and statistics."""
    kind = NORMS[norm]
    convolutions = feeding(model, found) if kind.by_convolution else {}
    made = {}
    for name, old in found.items():
        new = kind.successor(name, old, numbers, convolutions.get(name))
        made[name] = new if new is old else _inherit(old, new, name)
    return made


def _inherit(old: _BatchNorm, new: nn.Module, name: str) -> nn.Module:
    """Give the new layer the old one's parameters, statistics, drop and activation, mode and device."""
    first = next((t for t in (*old.parameters(False), *old.buffers(False))), None)
    if first is not None:
        new.to(first.device)
    for key, parameter in old._parameters.items():
        if key in new._parameters:
            new._parameters[key] = parameter
        elif key in new._buffers:
            new._buffers[key] = None if parameter is None else parameter.detach().clone()
    for key in ("running_mean", "num_batches_tracked", "running_var"):
        if new._buffers.get(key) is not None and getattr(old, key) is not None:
            new._buffers[key] = getattr(old, key).detach().clone()
    if "running_std" in new._buffers and old.running_var is not None:
        new._buffers["running_std"] = (old.running_var + old.eps).sqrt()
    for key, child in old._modules.items():
        new.add_module(key, child)
    new.training = old.training
    new.layer_name = name  # type: ignore[assignment]
    return new


def _dimensions(module: _BatchNorm) -> int | None:
    """1, 2 or 3 as in the layer's type; None for a layer that takes any."""
    for n, kind in enumerate((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), start=1):
        if isinstance(module, kind):
            return n
    return None


def _dtype(old: _BatchNorm) -> torch.dtype | None:
    tensors = (old.running_mean, old.weight)
    return next((t.dtype for t in tensors if t is not None), None)


def _batchnorm(name: str, old: _BatchNorm, numbers: Numbers, _: nn.Conv2d | None) -> nn.Module:
    own = type(old).__module__.startswith("bnrecal.")
    if not own and "norm_batch" not in numbers:
        old.momentum = numbers.get("momentum", old.momentum)
        return old
    dimensions = _dimensions(old)
    kinds = _GHOSTS if "norm_batch" in numbers or dimensions is None or old._modules else _PLAIN
    settings = {"eps": old.eps, "momentum": old.momentum, "affine": old.affine, **numbers}
    tracks = old.running_mean is not None
    new = kinds[dimensions](old.num_features, track_running_stats=tracks, dtype=_dtype(old), **settings)
    new.__dict__["track_running_stats"] = old.track_running_stats  # may have been set after construction
    return new


def _groupnorm(name: str, old: _BatchNorm, numbers: Numbers, _: nn.Conv2d | None) -> nn.Module:
    channels, each = old.num_features, numbers.get("channels_per_group")
    wanted = numbers.get("groups", DEFAULT_GROUPS) if each is None else each
    if channels % wanted:
        what = f"{wanted} groups" if each is None else f"groups of {each} channels"
        valid = ", ".join(str(n) for n in range(1, channels + 1) if channels % n == 0)
        raise BnrecalError(f"{name}: {channels} channels do not divide into {what}; valid: {valid}")
    return GroupNorm(wanted if each is None else channels // each, channels, old.eps, old.affine)


def _evalnorm(name: str, old: _BatchNorm, numbers: Numbers, _: nn.Conv2d | None) -> nn.Module:
    if old.running_mean is None:
        raise BnrecalError(f"{name}: evalnorm corrects running statistics, and this layer keeps none")
    settings = {"momentum": old.momentum, "affine": old.affine, **numbers}
    return _EVALNORMS[_dimensions(old)](old.num_features, old.eps, dtype=_dtype(old), **settings)


def _renorm(name: str, old: _BatchNorm, numbers: Numbers, _: nn.Conv2d | None) -> nn.Module:
    if old.running_mean is None:
        raise BnrecalError(f"{name}: brn corrects by running statistics, and this layer keeps none")
    kind = _RENORMS[_dimensions(old)]
    return kind(old.num_features, old.eps, affine=old.affine, dtype=_dtype(old), **numbers)


def _cross_iteration(
    name: str, old: _BatchNorm, numbers: Numbers, convolution: nn.Conv2d | None
) -> nn.Module:
    if not isinstance(old, nn.BatchNorm2d):
        raise BnrecalError(
            f"{name}: cbn and naive-cbn take the place of BatchNorm2d, not of {type(old).__name__}"
        )
    if old.running_mean is None:
        raise BnrecalError(f"{name}: cbn and naive-cbn keep running statistics, and this layer has none")
    settings = {"momentum": old.momentum, "affine": old.affine, **numbers}
    return CrossIterationBatchNorm2d(
        old.num_features,
        old.eps,
        compensate=convolution is not None,
        convolution=convolution,
        dtype=_dtype(old),
        **settings,
    )


def _frozen(name: str, old: _BatchNorm, numbers: Numbers, _: nn.Conv2d | None) -> nn.Module:
    if old.running_mean is None:
        raise BnrecalError(f"{name}: frozen holds running statistics constant, and this layer keeps none")
    return FrozenBatchNorm(old.num_features, old.eps, old.affine)


NORMS: dict[str, Kind] = {
    "bn": Kind(("norm_batch", "momentum"), _batchnorm),
    "gn": Kind(("groups", "channels_per_group"), _groupnorm),
    "ln": Kind((), lambda name, old, *_: LayerNorm(old.num_features, old.eps, old.affine)),
    "in": Kind((), lambda name, old, *_: InstanceNorm(old.num_features, old.eps, old.affine)),
    "brn": Kind(("norm_batch", "rmax", "dmax", "momentum"), _renorm),
    "cbn": Kind(("norm_batch", "window", "burn_in", "momentum"), _cross_iteration, by_convolution=True),
    "naive-cbn": Kind(("norm_batch", "window", "burn_in", "momentum"), _cross_iteration),
    "evalnorm": Kind(("norm_batch", "momentum"), _evalnorm),
    "frozen": Kind((), _frozen),
}
