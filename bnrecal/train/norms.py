"""A network with the normalisations of a recipe: to be trained, and to be evaluated afterwards."""

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from bnrecal.errors import BnrecalError
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
        if find_spec("bnrecal.norms") is None:
            raise BnrecalError(f"norm: {self.norm} is not there yet; valid: bn with all images of a forward")
        convert = import_module("bnrecal.norms").convert
        given = {name: value for name, value in vars(self).items() if value is not None}
        found: nn.Module = convert(module, **given)
        return found


def training_conversion(recipe: Recipe) -> Conversion | None:
    """From the network as its source makes it to the one that is trained; None if that is the same."""
    if recipe.norm == "bn" and recipe.norm_batch is None:
        return None
    return Conversion(recipe.norm, recipe.norm_batch, recipe.groups, recipe.window, recipe.rmax, recipe.dmax)


def evaluation_conversion(recipe: Recipe) -> Conversion | None:
    """The same for a network to be evaluated or recalibrated with trained weights.

    To be given to `networks.of`. In evaluation a BatchNorm does not know how many images it saw in training.
    """
    if recipe.norm == "bn":
        return None
    return Conversion(recipe.norm, None, recipe.groups, recipe.window, recipe.rmax, recipe.dmax)


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
