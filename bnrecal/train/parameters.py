"""Which parameters learn, in which groups, and by which optimiser."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from bnrecal.errors import BnrecalError
from bnrecal.networks.learner import Choices
from bnrecal.optimisers import LARC, LARS
from bnrecal.study.recipe import Recipe
from bnrecal.train.norms import is_norm

Groups = list[dict[str, Any]]


def set_trainable(module: nn.Module, trainable: str, choices: Choices | None) -> list[nn.Parameter]:
    """Let these parameters learn and no others; the ones that do, in the module's order.

    "norm": scales and shifts of normalisation layers. "last-norm": those of the last normalisation of each
    operation of a supernet's choice blocks, as the released code of BN-NAS does it. Raises BnrecalError
    where there are none.
    """
    if trainable == "all":
        return [p for p in module.parameters() if p.requires_grad]
    layers = [m for m in module.modules() if is_norm(m)] if trainable == "norm" else _last_norms(choices)
    chosen = {id(p) for layer in layers for p in layer.parameters(recurse=False)}
    if not chosen:
        raise BnrecalError(f"trainable: {trainable}: the network has no normalisation with scale and shift")
    for parameter in module.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
    return [p for p in module.parameters() if p.requires_grad]


def _last_norms(choices: Choices | None) -> list[nn.Module]:
    if choices is None or choices.operations is None:
        raise BnrecalError(
            "trainable: last-norm is for a supernet that names the operations of its choice blocks; use norm"
        )
    found = []
    for operation in (operation for layer in choices.operations for operation in layer):
        norms = [module for module in operation.modules() if is_norm(module)]
        found += norms[-1:]
    return found


def make_optimiser(parameters: Iterable[nn.Parameter], recipe: Recipe) -> Optimizer:
    """The recipe's optimiser; parameters of one dimension are in a group of their own."""
    learning = list(parameters)
    vectors = recipe.weight_decay if recipe.decay_vectors else 0.0
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": vectors},
    ]
    return _MAKERS[recipe.optimizer]([group for group in groups if group["params"]], recipe)


def _sgd(groups: Groups, recipe: Recipe) -> Optimizer:
    return torch.optim.SGD(groups, lr=recipe.peak_lr, momentum=recipe.momentum, nesterov=recipe.nesterov)


def _adamw(groups: Groups, recipe: Recipe) -> Optimizer:
    return torch.optim.AdamW(groups, lr=recipe.peak_lr, betas=recipe.betas)


def _layerwise(recipe: Recipe) -> dict[str, Any]:
    assert recipe.trust_coefficient is not None
    adapt = {} if recipe.adapt is None else {"adapt": recipe.adapt}
    return {"trust_coefficient": recipe.trust_coefficient, **adapt}


def _lars(groups: Groups, recipe: Recipe) -> Optimizer:
    more = _layerwise(recipe)
    return LARS(groups, recipe.peak_lr, momentum=recipe.momentum, nesterov=recipe.nesterov, **more)


def _larc(groups: Groups, recipe: Recipe) -> Optimizer:
    return LARC(_sgd(groups, recipe), **_layerwise(recipe))


_MAKERS: dict[str, Callable[[Groups, Recipe], Optimizer]] = {
    "sgd": _sgd,
    "adamw": _adamw,
    "lars": _lars,
    "larc": _larc,
}


def set_learning_rate(optimiser: Optimizer, lr: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = lr
