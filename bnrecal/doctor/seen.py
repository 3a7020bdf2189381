"""A model run for a look: what happened in one forward, and its own errors as one line."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnrecal.errors import BnrecalError
from bnrecal.recalibration.batches import Forward


class ModelError(BnrecalError):
    """The model, or the user's evaluate, raised something of its own."""


@contextmanager
def named(how: str) -> Iterator[None]:
    """Any error of the model's own becomes one line that says how it was run."""
    try:
        yield
    except BnrecalError:
        raise
    except Exception as error:
        raise ModelError(f"{how} the model raised {type(error).__name__}: {error}") from error


@dataclass
class Seen:
    """What happened in one forward of the first batch, in evaluation mode."""

    output: Any = None
    values: dict[str, list[int]] = field(default_factory=dict)  # layer -> values per channel of each call


def seen_of(model: nn.Module, batch: Any, forward: Forward) -> Seen:
    """One forward of a copy of the model, as it stands."""
    model = copy.deepcopy(model)
    seen = Seen()

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x: Tensor = args[0] if args else next(iter(kwargs.values()))
            seen.values.setdefault(name, []).append(x.numel() // max(1, x.shape[1]))

        return hook

    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            module.register_forward_pre_hook(note(name), with_kwargs=True)
    with named("in evaluation mode"), torch.no_grad():
        seen.output = forward(model, batch)
    return seen
