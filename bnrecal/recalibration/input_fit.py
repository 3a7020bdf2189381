"""How well the statistics a network holds fit its inputs, where it first looks at them.

A network carries a trace of how its images were scaled: the running statistics of its first BatchNorms
are those of its training images, as they came. Other images of the kind give nearly the same; images
scaled otherwise give others at once, and in every channel.

The distance of a layer is the median over its channels of the Bhattacharyya distance between the
normal distributions with the stored and with the measured moments (variances with the layer's eps),

    (m - m')^2 / (4 (v + v')) + ln((v + v') / (2 sqrt(v v'))) / 2,

no unit, 0 for equal ones and small for small differences, growing with the logarithm of a wrong scale;
of a network the mean over its first BatchNorms (Bhattacharyya, "On a measure of divergence between two
statistical populations", 1943).
"""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from bnrecal.recalibration.batches import Forward
from bnrecal.recalibration.layers import inner_of

N_LAYERS = 3  # BatchNorms looked at, in the order of their first calls

Affine = tuple[Tensor, Tensor]  # x -> x * factor + offset, each (channels, 1, 1)


class _EnoughError(Exception):
    """The last BatchNorm wanted was reached: the rest of the forward is not needed."""


def misfit(model: nn.Module, batches: Iterable[Any], forward: Forward, affine: Affine | None = None) -> float:
    """Mean distance over the first N_LAYERS BatchNorms; the model's copy runs in eval mode.

    `affine` is done to the images first. NaN where no BatchNorm that keeps statistics is reached, and
    where one of them was never updated (mean 0, variance 1) or holds no statistics of anything.
    """
    model = prepared_as(model, affine)
    norms = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }
    sums: dict[str, Tensor] = {}
    seen: set[str] = set()
    enough = min(N_LAYERS, len(norms))
    for name, norm in norms.items():
        norm.register_forward_pre_hook(_watching(name, sums, seen, enough), with_kwargs=True)
    with torch.no_grad():
        for batch in batches:
            seen.clear()
            try:
                forward(model, batch)
            except _EnoughError:
                continue
    distances = [_distance(norms[name], total) for name, total in sums.items()]
    return float(torch.stack(distances).mean()) if distances else float("nan")


def _watching(name: str, sums: dict[str, Tensor], seen: set[str], enough: int) -> Callable[..., None]:
    """A hook that adds up a layer's values in its first call of each forward: count, sum and squares."""

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if name in seen or (name not in sums and len(sums) >= enough):
            return
        seen.add(name)
        x: Tensor = args[0] if args else next(iter(kwargs.values()))
        channels = x.detach().transpose(0, 1).flatten(1).float()
        var, mean = torch.var_mean(channels, 1, correction=0)
        mean, var = mean.double().cpu(), var.double().cpu()
        parts = torch.stack([torch.ones_like(mean), mean, var + mean.square()]) * channels.shape[1]
        sums[name] = sums[name] + parts if name in sums else parts
        if len(seen) >= enough:
            raise _EnoughError

    return hook


def _distance(norm: _BatchNorm, total: Tensor) -> Tensor:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, var = norm.running_mean.detach().double().cpu(), norm.running_var.detach().double().cpu()
    if bool((mean == 0).all() and (var == 1).all()):
        return torch.tensor(float("nan"), dtype=torch.float64)
    measured = total[1] / total[0]
    spread = (total[2] / total[0] - measured.square()).clamp(min=0) + norm.eps
    var = var + norm.eps
    by_mean = (mean - measured).square() / (4 * (var + spread))
    return (by_mean + ((var + spread) / (2 * (var * spread).sqrt())).log() / 2).median()


def prepared_as(model: nn.Module, affine: Affine | None) -> nn.Module:
    """A copy in eval mode that first does `affine` to every image it is given."""
    model = copy.deepcopy(inner_of(model)).eval()
    if affine is None:
        return model
    factor, offset = affine

    def is_image(leaf: Any) -> bool:
        return (
            isinstance(leaf, Tensor)
            and leaf.is_floating_point()
            and leaf.dim() in (3, 4)
            and leaf.shape[-3] == len(factor)
        )

    def change(leaf: Any) -> Any:
        return leaf * factor.to(leaf) + offset.to(leaf) if is_image(leaf) else leaf

    def hook(module: nn.Module, args: Any, kwargs: Any) -> Any:
        return pytree.tree_map(change, args), pytree.tree_map(change, kwargs)

    model.register_forward_pre_hook(hook, with_kwargs=True)
    return model
