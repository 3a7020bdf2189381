"""What a network source has to offer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from bnrecal.networks.forward import plain_forward
from bnrecal.search.space import Space

if TYPE_CHECKING:
    from torch import nn

    from bnrecal.networks.learner import Learner

Convert = Callable[["nn.Module"], "nn.Module"]  # to a copy with other layers, such as other normalisations


class Purpose(Protocol):
    """What a source knows of the task its networks are for."""

    @property
    def name(self) -> str: ...

    @property
    def metric(self) -> str:
        """ "map50" or "top1"."""
        ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        ...


@dataclass(frozen=True)
class Network:
    """A ready model, how a batch goes through it, and how its output becomes predictions.

    `forward(module, images)` returns a tensor whose first dimension is the images, or a list with an
    entry per image. `predict` gets the outputs of many images, concatenated; its result is what the
    task's scoring takes: `Detections` with images counted from 0 for map50, class indices (images,) for
    top1.
    """

    module: "nn.Module"
    predict: Callable[[Any], Any]
    forward: "Callable[[nn.Module, Any], Any]" = plain_forward


class NetworkSource(Protocol):
    """Names architectures and builds one."""

    @property
    def names(self) -> tuple[str, ...]:
        """What a study takes if it says nothing."""
        ...

    @property
    def note(self) -> str | None:
        """What the user should know before a run, such as that nothing is trained."""
        ...

    def random(self, n: int, seed: int) -> tuple[str, ...]:
        """`n` different architectures drawn by `seed`; BnrecalError if there are not so many."""
        ...

    def check_name(self, arch: str) -> None:
        """Raises BnrecalError if there is no such architecture."""
        ...

    def check(self, arch: str) -> None:
        """Raises BnrecalError if there is no such architecture, or no whole weights for it and this task."""
        ...

    def digest(self, arch: str) -> str:
        """Hex digest of the weights and of the path this architecture takes through them."""
        ...

    def build(self, arch: str) -> Network: ...

    @property
    def space(self) -> Space | None:
        """The choices its architectures are made of; None if it names none."""
        ...

    def candidate(self, layer: int, choice: int) -> "nn.Module | None":
        """The module that carries out this choice of the space; None for one that does nothing.

        With the weights that every architecture taking the choice shares. Raises BnrecalError where the
        source does not tell.
        """
        ...

    def chain(self, arch: str) -> "tuple[nn.Module, ...] | None":
        """The modules that `build(arch)` runs one after another, each on what the one before gave.

        The same object in the chains of two architectures means the same weights and the same computation:
        architectures whose chains begin alike share what they compute there. None if it is no such chain.
        """
        ...

    def learner(self, arch: str | None, seed: int) -> "Learner":
        """The architecture to be trained, or the whole supernet for None; initial weights drawn by `seed`.

        From the source's weights, if the user gave some. Raises BnrecalError for an unknown architecture,
        for None where there is no supernet of choice blocks, and for what cannot be trained.
        """
        ...
