"""What `convert` did to a network."""

from dataclasses import dataclass

from torch import nn

from bnrecal.errors import BnrecalError


@dataclass(frozen=True)
class Conversion:
    """The normalisation layers of a converted network, by their names in it."""

    norm: str
    converted: dict[str, str]  # name -> what stands there now
    left_alone: dict[str, str]  # name of another normalisation layer -> why it stayed


_ATTRIBUTE = "_norm_conversion"


def note(model: nn.Module, conversion: Conversion) -> None:
    """Keep the conversion with the network; copies of it keep it too."""
    model.__dict__[_ATTRIBUTE] = conversion


def conversion_of(model: nn.Module) -> Conversion:
    """What `convert` did to make this network; raises BnrecalError if it did not make it."""
    found = model.__dict__.get(_ATTRIBUTE)
    if not isinstance(found, Conversion):
        raise BnrecalError(f"this {type(model).__name__} was not made by bnrecal.norms.convert")
    return found
