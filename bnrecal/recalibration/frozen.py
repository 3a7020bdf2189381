"""Which BatchNorms are frozen: fine-tuned around, and meant to keep the statistics they have.

A network says so by modes alone: PyTorch has no other mark. What counts are the modes of the BatchNorms
that keep running statistics, and not those of anything else: a new head, one Dropout or a wrapper
(AveragedModel, nn.Sequential) in train mode says nothing about them. Where all are in one mode, that is
the mode of the network, and none is frozen. Where some are in train mode and some in eval mode, somebody
has told them apart, and those in eval mode are frozen; whether it was meant cannot be seen, so that it is
always said, with the way to have it otherwise.
"""

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnrecal.errors import BnrecalError
from bnrecal.study.frozen import LeftAlone

# "by_mode": every BatchNorm in eval mode; "auto": the same where BatchNorms are in both modes, else none;
# "none"; or names of BatchNorms, or of parts of the model that hold some
Frozen = Literal["auto", "by_mode", "none"] | Collection[str]
RULES = ("auto", "by_mode", "none")
REASONS = {
    "auto": 'frozen: in eval mode while other BatchNorms are in train mode; frozen="none" takes it too',
    "by_mode": 'frozen: in eval mode, and frozen="by_mode"; "none" re-estimates it',
}


def frozen_layers(model: nn.Module, frozen: Frozen = "auto") -> tuple[str, ...]:
    """Names of the BatchNorms with running statistics that this rule takes for frozen.

    Raises BnrecalError for an unknown rule and for names of nothing that has statistics.
    """
    modes = {name: norm.training for name, norm in _keeping(model)}
    if not isinstance(frozen, str):
        return _named(modes, frozen)
    if frozen not in RULES:
        raise BnrecalError(
            f"frozen={frozen!r}: valid are {', '.join(RULES)}, or a list of names of BatchNorms"
        )
    in_eval = tuple(name for name, training in modes.items() if not training)
    if frozen == "none" or (frozen == "auto" and len(in_eval) == len(modes)):
        return ()
    return in_eval


def reason_for(frozen: Frozen) -> str:
    """Why a layer that this rule takes for frozen is left alone."""
    return REASONS[frozen] if isinstance(frozen, str) else "frozen: named so"


def left_alone(model: nn.Module) -> LeftAlone | None:
    """What "auto" leaves alone; None where it leaves nothing."""
    kept = frozen_layers(model)
    return LeftAlone(len(kept), len(_keeping(model)), kept[:3]) if kept else None


def left_by_mode(model: nn.Module, frozen: Frozen) -> str | None:
    """What "auto" leaves alone, why, and how to have it otherwise; None where it leaves nothing."""
    kept = frozen_layers(model, frozen) if frozen == "auto" else ()
    if not kept:
        return None
    n, total = len(kept), len(_keeping(model))
    shown = ", ".join(name or "the model itself" for name in kept[:3]) + (", ..." if n > 3 else "")
    return (
        f"{n} of {total} BatchNorms ({shown}) {'are' if n > 1 else 'is'} in eval mode and {total - n} in "
        "train mode, so what is in eval mode counts as frozen and keeps its statistics; "
        'frozen="none" (--frozen none) or model.train() before re-estimates all'
    )


def _keeping(model: nn.Module) -> list[tuple[str, _BatchNorm]]:
    """The BatchNorms with running statistics, under their first names."""
    return [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    ]


def _named(modes: Mapping[str, bool], wanted: Iterable[str]) -> tuple[str, ...]:
    """The BatchNorms of these names and below them, in the model's order."""
    wanted = list(wanted)
    found = set()
    for name in wanted:
        below = {layer for layer in modes if layer == name or layer.startswith(f"{name}.")}
        if not below:
            near = difflib.get_close_matches(str(name), _valid(modes), 3, 0.0)
            shown = (
                f"the nearest: {', '.join(near)}" if near else "the model has no BatchNorm with statistics"
            )
            raise BnrecalError(f"frozen: no BatchNorm is called {name!r}, nor is one in such a part; {shown}")
        found |= below
    return tuple(layer for layer in modes if layer in found)


def _valid(modes: Iterable[str]) -> list[str]:
    """Names of BatchNorms and of the parts that hold them."""
    return sorted({".".join(name.split(".")[:k]) for name in modes for k in range(1, name.count(".") + 2)})
