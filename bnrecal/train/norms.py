"""A network with the normalisations of a recipe: to be trained, and to be evaluated afterwards."""

from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from bnrecal.norms import convert
from bnrecal.study.recipe import Recipe


@dataclass(frozen=True)
class Conversion:
    """Gives a copy of a module with its BatchNorms replaced; equal ones have equal `repr`."""

    norm: str
    norm_batch: int | None = None
    groups: int | None = None
    window: int | None = None
    rmax: float | None = None
    dmax: float | None = None

    def __call__(self, module: nn.Module) -> nn.Module:
        return convert(module, **vars(self))


def training_conversion(recipe: Recipe) -> Conversion | None:
    """From the network as its source makes it to the one that is trained; None if that is the same."""
    recipe = recipe.twin or recipe
    if recipe.norm == "bn" and recipe.norm_batch is None:
        return None
    return Conversion(recipe.norm, recipe.norm_batch, recipe.groups, recipe.window, recipe.rmax, recipe.dmax)


def evaluation_conversion(recipe: Recipe) -> Conversion | None:
    """The same for a network to be evaluated or recalibrated with trained weights.

    To be given to `networks.of`. In evaluation a BatchNorm does not know how many images it saw in training,
    but for EvalNorm, which reckons with them.
    """
    if recipe.norm == "bn":
        return None
    if recipe.norm == "evalnorm":
        return Conversion(recipe.norm, recipe.norm_batch or recipe.forward_batch)
    return Conversion(recipe.norm, None, recipe.groups, recipe.window, recipe.rmax, recipe.dmax)


# Batch Renormalization's schedule (Ioffe 2017): plain BatchNorm for 5,000 steps, then rmax rises to its end
# by step 40,000 and dmax by step 25,000. Here as parts of a training, taking 160,000 steps for a whole one.
_PLAIN_UNTIL, _RMAX_BY, _DMAX_BY = 5 / 160, 40 / 160, 25 / 160


def renorm_bounds(recipe: Recipe, done: float) -> tuple[float, float]:
    """(rmax, dmax) of Batch Renormalization where this part of all steps, in [0, 1], is done."""
    assert recipe.rmax is not None
    assert recipe.dmax is not None
    risen = [min(1.0, max(0.0, (done - _PLAIN_UNTIL) / (by - _PLAIN_UNTIL))) for by in (_RMAX_BY, _DMAX_BY)]
    return 1 + (recipe.rmax - 1) * risen[0], recipe.dmax * risen[1]


def set_renorm_bounds(layers: list[nn.Module], recipe: Recipe, done: float) -> None:
    if not layers:
        return
    rmax, dmax = renorm_bounds(recipe, done)
    for layer in layers:
        layer.rmax, layer.dmax = rmax, dmax  # type: ignore[assignment]


def renorm_layers(module: nn.Module) -> list[nn.Module]:
    return [layer for layer in module.modules() if hasattr(layer, "rmax")]


def set_burn_in(module: nn.Module, recipe: Recipe, steps_an_epoch: int) -> None:
    """For so long Cross-Iteration BatchNorm takes the current batch alone; None leaves it as it is.

    The layer counts batches that are normalised together, of which a step has several.
    """
    if recipe.burn_in is None:
        return
    together = recipe.norm_batch or recipe.forward_batch
    batches = round(recipe.burn_in * steps_an_epoch) * -(-recipe.batch_size // together)
    for layer in module.modules():
        if hasattr(layer, "burn_in"):
            layer.burn_in = batches  # type: ignore[assignment]


def is_norm(module: nn.Module) -> bool:
    """Whether this layer normalises, and has its own scale and shift."""
    return isinstance(module, _NormBase | nn.GroupNorm | nn.LayerNorm | nn.RMSNorm)


def set_momentum(module: nn.Module, momentum: float | None) -> None:
    """The weight of the newest batch in all running statistics; None leaves each as it is."""
    if momentum is None:
        return
    for layer in module.modules():
        if isinstance(layer, _NormBase) and layer.track_running_stats:
            layer.momentum = momentum
