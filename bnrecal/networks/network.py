"""What a network source has to offer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Network:
    """A ready model, and how its output becomes predictions the task can score.

    `predict` is called once for many images; its result is what the task's scoring takes
    (`Detections` with images counted from 0 for map50).
    """

    module: "nn.Module"
    predict: Callable[[Any], Any]


class NetworkSource(Protocol):
    """Names architectures and builds one. `check` and `digest` must not import torch."""

    def check(self, arch: str) -> None:
        """Raises BnrecalError if there is no such architecture or its weights are damaged."""
        ...

    def digest(self, arch: str) -> str:
        """Hex digest of the weights and of the path this architecture takes through them."""
        ...

    def build(self, arch: str) -> Network: ...
