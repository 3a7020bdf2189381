"""A network's copy with another normalisation in the place of every BatchNorm."""

import copy
from collections import Counter
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parameter import is_lazy

from bnrecal.errors import BnrecalError, unknown_choice
from bnrecal.norms.conversion import Conversion, note
from bnrecal.norms.kinds import NORMS, Numbers


def convert(model: nn.Module, norm: str, **numbers: Any) -> nn.Module:
    """A copy of `model` in which every BatchNorm is replaced by the normalisation `norm`.

    Affine weights are the copy's own parameters under their old names; so are running statistics where
    the new layer keeps some. Modes, devices and precisions stay; what timm's BatchNorms do after
    normalising (drop, activation) is done by the layer that takes their place. A module used in several
    places is replaced once. `conversion_of(copy)` tells what was converted and what was left alone, and
    why. The table of norms, with formulas and sources, is the face of bnrecal.norms.

    Args:
        model: any module that holds BatchNorms (1d, 2d, 3d, SyncBatchNorm, timm's); it stays as it is.
        norm: "bn", "gn", "ln", "in", "brn", "cbn", "naive-cbn" or "frozen".
        numbers: what the norm takes, each a number or None, which means not given (kinds.py).

    Raises:
        BnrecalError: an unknown norm, a number it does not take or one out of range, no BatchNorm in the
            model, a layer that cannot be converted (named).
    """
    if norm not in NORMS:
        raise unknown_choice("norm", norm, NORMS)
    kind = NORMS[norm]
    given = _checked(norm, numbers)
    _check_convertible(model)
    try:
        converted = copy.deepcopy(model)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise BnrecalError(f"the model cannot be copied, which a conversion needs: {what}") from error
    found, left = _batchnorms(converted)
    if not found:
        raise BnrecalError(f"the model has no BatchNorm to convert ({_listed(left) or 'none at all'})")
    replaced = kind.replace(converted, found, given)
    for name, layer in replaced.items():
        layer.train(found[name].training)
    new = _with(converted, {found[name]: layer for name, layer in replaced.items()})
    note(new, Conversion(norm, {name: _described(layer) for name, layer in replaced.items()}, left))
    return new


def _checked(norm: str, numbers: dict[str, Any]) -> Numbers:
    given = {name: value for name, value in numbers.items() if value is not None}
    known = {name for kind in NORMS.values() for name in kind.takes}
    for name in numbers:
        if name not in known:
            raise unknown_choice("number", name, sorted(known), f"norm {norm}")
    foreign = [name for name in given if name not in NORMS[norm].takes]
    if foreign:
        takes = ", ".join(NORMS[norm].takes) or "none"
        raise BnrecalError(
            f"{foreign[0]}={given[foreign[0]]!r}: norm {norm} has no such number; it takes {takes}"
        )
    return given


def _check_convertible(model: nn.Module) -> None:
    """Refuse what a copy of cannot be changed, or was never given its sizes."""
    wrapped = isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel)
    if wrapped or getattr(model, "_orig_mod", None) is not None:
        raise BnrecalError(f"convert the module inside {type(model).__name__}, and wrap what comes out")
    for name, module in model.named_modules():
        if any(is_lazy(tensor) for tensor in (*module._parameters.values(), *module._buffers.values())):
            raise BnrecalError(f"{name or 'the model'} was never initialised: run one batch through it first")


def _batchnorms(model: nn.Module) -> tuple[dict[str, _BatchNorm], dict[str, str]]:
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


def _with(model: nn.Module, replaced: dict[Any, nn.Module]) -> nn.Module:
    """The model with these modules in the place of those, wherever they stand."""
    for module in list(model.modules()):
        for name, child in module._modules.items():
            if child in replaced:
                module._modules[name] = replaced[child]
    return replaced.get(model, model)
