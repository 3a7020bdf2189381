"""Layers whose shapes a first batch decides: they have to see one before there are statistics to estimate."""

import itertools
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from bnrecal.errors import BnrecalError
from bnrecal.recalibration.batches import Forward


def initialised(model: nn.Module, batches: Iterable[Any], forward: Forward) -> Iterable[Any]:
    """Let lazy layers see a first batch, if there are any; returns batches that begin with it again."""
    if not any(_is_lazy(module) for module in model.modules()):
        return batches
    source = iter(batches)
    first = next(source, None)
    if first is None:
        raise BnrecalError("batches: empty, and the model has layers that only a batch can initialise")
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = False
        with torch.no_grad():
            forward(model, first)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise BnrecalError(f"batch 0: the model raised {what} when it was initialised") from error
    finally:
        for module, training in modes:
            module.training = training
    return itertools.chain([first], source) if source is batches else batches


def _is_lazy(module: nn.Module) -> bool:
    return isinstance(module, LazyModuleMixin) and module.has_uninitialized_params()


def check_initialised(model: nn.Module) -> None:
    if any(_is_lazy(module) for module in model.modules()):
        raise BnrecalError("the model has layers that were never initialised: run one batch through it first")
