"""What a network source hands over to be trained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from bnrecal.networks.forward import plain_forward

Head = Literal["logits", "grid"]  # (images, classes); or the embedded detector's grid of boxes


@dataclass(frozen=True)
class Choices:
    """The choice blocks of a supernet.

    `sizes`: operations that each layer offers. `path(choices)`: the single-path model that takes these; it
    shares the supernet's modules. `operations`: the modules by layer and choice, if there are such.
    """

    sizes: tuple[int, ...]
    path: Callable[[Sequence[int]], nn.Module]
    operations: tuple[tuple[nn.Module, ...], ...] | None = None


@dataclass(frozen=True)
class Learner:
    """A module with the weights training starts from.

    `digest` is of those weights, of the module's structure and code. `choices` finds the choice blocks of the
    module or of a copy of it, if it is a supernet.
    """

    module: nn.Module
    digest: str
    head: Head = "logits"
    forward: Callable[[nn.Module, Any], Any] = plain_forward
    choices: Callable[[nn.Module], Choices] | None = None
