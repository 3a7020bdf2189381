"""A network's copy with another normalisation in the place of every BatchNorm."""

import copy
from collections import Counter

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parameter import is_lazy

from bnrecal.errors import BnrecalError, unknown_choice
from bnrecal.norms.conversion import Conversion, note
from bnrecal.norms.cross_iteration import CrossIterationBatchNorm2d
from bnrecal.norms.kinds import NORMS, Numbers, replacements


def convert(
    model: nn.Module,
    norm: str,
    *,
    norm_batch: int | None = None,
    groups: int | None = None,
    channels_per_group: int | None = None,
    rmax: float | None = None,
    dmax: float | None = None,
    window: int | None = None,
    burn_in: int | None = None,
    momentum: float | None = None,
) -> nn.Module:
    """A copy of `model` in which every BatchNorm is replaced by the normalisation `norm`.

    Affine weights keep their names, and so do running statistics where the new layer has some; modes,
    devices, precisions and each layer's eps stay, and what timm's BatchNorms do after normalising (drop,
    activation) is done by the layer that takes their place. Hooks on replaced layers are gone. A module
    used in several places is replaced once. `conversion_of(copy)` tells what was converted and what was
    left alone, and why. Formulas and sources stand in the face of bnrecal.norms.

    Args:
        model: any module that holds BatchNorms (1d, 2d, 3d, SyncBatchNorm, timm's); it stays as it is.
        norm: "bn", "gn", "ln", "in", "brn", "cbn", "naive-cbn", "evalnorm" or "frozen".
        norm_batch: of bn, brn, cbn, naive-cbn: images that give statistics together; by default all. Of
            evalnorm: the same in training, which evaluation then reckons with; it has no default.
        groups: of gn; by default 32.
        channels_per_group: of gn, in the place of groups.
        rmax: of brn; by default 1. May be set later, as may dmax and burn_in.
        dmax: of brn; by default 0.
        window: of cbn, naive-cbn: batches pooled, the current one included; by default 4.
        burn_in: of cbn, naive-cbn: batches normalised by themselves before; by default 0.
        momentum: of the running statistics; by default .01 for brn, elsewhere the layer's own.

    Raises:
        BnrecalError: an unknown norm, a number it does not take or one out of range, no BatchNorm in the
            model, a layer that cannot be converted (named).
    """
    if norm not in NORMS:
        raise unknown_choice("norm", norm, NORMS)
    asked = {
        "norm_batch": norm_batch,
        "groups": groups,
        "channels_per_group": channels_per_group,
        "rmax": rmax,
        "dmax": dmax,
        "window": window,
        "burn_in": burn_in,
        "momentum": momentum,
    }
    numbers = _checked(norm, {name: value for name, value in asked.items() if value is not None})
    _check_convertible(model)
    try:
        converted = copy.deepcopy(model)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise BnrecalError(f"the model cannot be copied, which a conversion needs: {what}") from error
    found, left = batchnorms(converted)
    if not found:
        raise BnrecalError(f"the model has no BatchNorm to convert ({_listed(left) or 'none at all'})")
    made = replacements(converted, found, norm, numbers)
    for old in found.values():
        if isinstance(old, CrossIterationBatchNorm2d):
            old.let_go()
    new = put_in_place(converted, {found[name]: layer for name, layer in made.items()})
    note(new, Conversion(norm, {name: _described(layer) for name, layer in made.items()}, left))
    return new


def _checked(norm: str, numbers: Numbers) -> Numbers:
    """The numbers, if this norm takes them and they are in range."""
    takes = NORMS[norm].takes
    for name, value in numbers.items():
        if name not in takes:
            valid = ", ".join(takes) or "none"
            raise BnrecalError(f"{name}={value!r}: norm {norm} has no such number; it takes {valid}")
        _check_number(name, value)
    if "groups" in numbers and "channels_per_group" in numbers:
        raise BnrecalError("groups and channels_per_group: give one of them")
    return numbers


def _check_number(name: str, value: object) -> None:
    whole = {"norm_batch": 1, "groups": 1, "channels_per_group": 1, "window": 1, "burn_in": 0}
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in whole and not (number and isinstance(value, int) and value >= whole[name]):
        raise BnrecalError(f"{name}={value!r}: a whole number from {whole[name]} on")
    if name == "momentum" and not (number and 0 < value <= 1):  # type: ignore[operator]
        raise BnrecalError(f"momentum={value!r}: more than 0 and at most 1")
    if not number:
        raise BnrecalError(f"{name}={value!r}: a number")


def _check_convertible(model: nn.Module) -> None:
    """Refuse what a copy of cannot be changed, or was never given its sizes."""
    wrapped = isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel)
    if wrapped or getattr(model, "_orig_mod", None) is not None:
        raise BnrecalError(f"convert the module inside {type(model).__name__}, and wrap what comes out")
    for name, module in model.named_modules():
        if any(is_lazy(tensor) for tensor in (*module._parameters.values(), *module._buffers.values())):
            raise BnrecalError(f"{name or 'the model'} was never initialised: run one batch through it first")


def batchnorms(model: nn.Module) -> tuple[dict[str, _BatchNorm], dict[str, str]]:
    """(BatchNorms to replace, {name of another normalisation layer: why it stays})."""
    found: dict[str, _BatchNorm] = {}
    left: dict[str, str] = {}
    for name, module in model.named_modules():
        kind = type(module).__name__
        if isinstance(module, _BatchNorm):
            if _is_known(module):
                found[name] = module
            else:
                left[name] = f"a {kind} has a forward of its own, which a conversion would lose"
        elif isinstance(module, nn.GroupNorm | nn.LayerNorm | nn.RMSNorm | _InstanceNorm):
            left[name] = f"{kind}: no BatchNorm"
        elif kind.startswith("FrozenBatchNorm"):
            left[name] = f"{kind}: constants, not a BatchNorm that trains"
    return found, left


def _is_known(module: _BatchNorm) -> bool:
    """Whether this layer computes BatchNorm, and perhaps timm's drop and activation after it, alone."""
    home = type(module).__module__
    torchs = type(module).forward in (_BatchNorm.forward, nn.SyncBatchNorm.forward)
    return torchs or home.startswith(("timm.", "bnrecal.norms."))


def _listed(left: dict[str, str]) -> str:
    counted = Counter(left.values())
    return "; ".join(f"{n} times {why}" if n > 1 else why for why, n in counted.items())


def _described(layer: nn.Module) -> str:
    return f"{type(layer).__name__}({layer.extra_repr()})"


def put_in_place(model: nn.Module, replaced: dict[_BatchNorm, nn.Module]) -> nn.Module:
    """The model with these modules in the place of those, wherever they stand."""
    for module in list(model.modules()):
        for name, child in module._modules.items():
            if isinstance(child, _BatchNorm) and child in replaced:
                module._modules[name] = replaced[child]
    return replaced.get(model, model) if isinstance(model, _BatchNorm) else model
