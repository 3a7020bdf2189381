"""What happens around a pass: images counted, forwards watched, errors told."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bnrecal.errors import BnrecalError, NotANumberError, in_a_line
from bnrecal.executors.training import Said
from bnrecal.measure.images import is_out_of_memory
from bnrecal.networks.network import Network


@dataclass
class Counted:
    """Hands on how many images were read, and remembers it."""

    on_images: Said
    n: int = 0

    def __call__(self, n: int, said: str = "", /) -> None:
        self.n += n
        self.on_images(n, said)


def watched(network: Network, watch: Callable[[], None]) -> Network:
    """The network with `watch` called before every forward."""

    def forward(module: torch.nn.Module, images: Any) -> Any:
        watch()
        return network.forward(module, images)

    return replace(network, forward=forward)


def reason_of(error: BaseException) -> str:
    """What is told of an error; where it is a bug or of a broken network, with the place."""
    return str(error) if isinstance(error, BnrecalError) else f"{in_a_line(error)} ({_place(error)})"


def failure_of(error: BaseException) -> str:
    """The kind of failure, as a row has it."""
    if isinstance(error, NotANumberError):
        return "not a number"
    return "out of memory" if is_out_of_memory(error) else "error"


def _place(error: BaseException) -> str:
    """File, line and function that raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name} line {last.lineno}, in {last.name}"
