"""Which parameters get a layer-wise rate, and in which lists they are stepped together.

Biases and the parameters of normalisation layers have one dimension. With a layer-wise rate they hold
large batches back: ResNet-50 at batch 2k / 8k / 16k reaches 75.3 / 74.3 / 75.4 % with it and 76.5 / 76.1 /
76.1 % without (PaddlePaddle, pull request 26733).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from bnrecal.errors import BnrecalError, unknown_choice

Adapt = Literal["weights", "all"] | None | Callable[[Tensor], bool] | Sequence[bool]
"""`"weights"`: parameters of more than one dimension; `"all"`; `None`: no parameter; a function that says so
of a parameter; or one truth value a parameter of the group."""

CHOICES = ("'weights'", "'all'", "None", "a function of a parameter", "one truth value a parameter")


def adapted(adapt: Adapt, params: Sequence[Tensor], place: str) -> list[bool]:
    """Whether each of a group's parameters gets a layer-wise rate. `place` is named in the error."""
    if adapt is None:
        return [False] * len(params)
    if adapt == "all":
        return [True] * len(params)
    if adapt == "weights":
        return [p.ndim > 1 for p in params]
    if callable(adapt):
        return [bool(adapt(p)) for p in params]
    if isinstance(adapt, str) or not isinstance(adapt, Sequence):
        raise unknown_choice("adapt", adapt, CHOICES, place)
    if len(adapt) != len(params):
        raise BnrecalError(f"{place}: adapt has {len(adapt)} truth values for {len(params)} parameters")
    return [bool(flag) for flag in adapt]


def said(adapt: Adapt, params: Sequence[Tensor]) -> str:
    """How many of a group's parameters have a layer-wise rate, in words."""
    which = " (those of more than one dimension)" if adapt == "weights" else ""
    return f"layer-wise rate for {sum(adapted(adapt, params, 'adapt'))} of {len(params)} parameters{which}"


def together(params: Sequence[Tensor], flags: Sequence[bool]) -> Iterator[tuple[bool, list[Tensor]]]:
    """Parameters that have a gradient, in lists of one device, dtype and flag, each list with its flag.

    On the processor every list holds one parameter: its passes then find it in the cache. On other devices
    the lists are as long as possible, since there launching an operation is what costs.
    """
    lists: dict[tuple[torch.device, torch.dtype, bool], list[Tensor]] = {}
    for p, flag in zip(params, flags, strict=True):
        if p.grad is None:
            continue
        if p.device.type == "cpu":
            yield flag, [p]
        else:
            lists.setdefault((p.device, p.dtype, flag), []).append(p)
    yield from ((flag, members) for (_, _, flag), members in lists.items())


def refuse_sparse(groups: Iterable[dict[str, Any]], name: str) -> None:
    """Raise BnrecalError if a gradient is sparse, before anything has been changed."""
    for k, group in enumerate(groups):
        for i, p in enumerate(group["params"]):
            if p.grad is not None and p.grad.layout is not torch.strided:
                raise BnrecalError(
                    f"{name}: parameter {i} of group {k} has a sparse gradient; only dense gradients are "
                    "supported (an Embedding with sparse=False gives one)"
                )
