"""The embedded network source: subnets of the supernet, trained by us or by `bnrecal train`."""

import copy
import functools
import hashlib
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bnrecal.errors import BnrecalError
from bnrecal.networks.network import Convert, Network, Purpose
from bnrecal.search.space import Space

if TYPE_CHECKING:
    from torch import nn

    from bnrecal.networks.learner import Choices, Learner
    from bnrecal.networks.weights_file import State

WEIGHTS = "garments_supernet.safetensors"
WEIGHTS_SHA256 = "8c14fa999dea9c87852c02d4dc42958880a3a04e647b3649cd75e6240028c4dc"
WEIGHTS_ARE_FOR = (1, 10, "map50")  # channels, classes, metric
N_BLOCKS, N_OPERATIONS = 8, 4

# The three architectures of the default study, by the digit of the operation taken in each block.
NAMED = {
    "arch1": "0-0-0-0-0-0-0-0",
    "arch2": "2-2-2-2-2-2-2-2",
    "arch3": "3-3-3-3-3-3-3-3",
}
SPACE = Space((tuple(map(str, range(N_OPERATIONS))),) * N_BLOCKS, named=NAMED)
# How the scenes were made into input for the shipped weights; sides in pixels, mean and std of pixels/255.
PREPROCESSING = {
    "image_size": (64, 64),
    "fit": "stretch",
    "channels": 1,
    "mean": (88.0 / 255,),
    "std": (47.0 / 255,),
}


def parse_arch(arch: str) -> tuple[int, ...]:
    """The choice of each block for "arch1" to "arch3" or a name like "3-0-2-1-3-2-0-1"."""
    digits = NAMED.get(arch, arch).split("-")
    valid = [str(k) for k in range(N_OPERATIONS)]
    if len(digits) != N_BLOCKS or any(d not in valid for d in digits):
        raise BnrecalError(
            f"--arch: unknown architecture {arch!r}; valid: {', '.join(NAMED)} or "
            f"{N_BLOCKS} choices from 0 to {N_OPERATIONS - 1} joined by '-', such as 3-0-2-1-3-2-0-1"
        )
    return tuple(map(int, digits))


@functools.cache
def _shipped_weights() -> bytes:
    """The weights file of the package, checked against its digest."""
    path = files("bnrecal.networks") / "weights" / WEIGHTS
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BnrecalError(f"{path}: cannot be read: {error.strerror}; install bnrecal again") from None
    found = hashlib.sha256(data).hexdigest()
    if found != WEIGHTS_SHA256:
        raise BnrecalError(
            f"{path}: damaged: its SHA-256 is {found[:12]}..., expected {WEIGHTS_SHA256[:12]}...; "
            "install bnrecal again"
        )
    return data


class EmbeddedSupernet:
    """The source named in `NetworkSource`; `weights` are the shipped ones or a file of the user's."""

    names = tuple(NAMED)
    note = None
    space: Space | None = SPACE

    def __init__(
        self,
        weights: Path | None = None,
        purpose: Purpose | None = None,
        convert: Convert | None = None,
    ) -> None:
        self.weights, self.purpose, self.convert = weights, purpose, convert

    def random(self, n: int, seed: int) -> tuple[str, ...]:
        """Uniform paths, all different."""
        return SPACE.random(n, seed)

    def check_name(self, arch: str) -> None:
        parse_arch(arch)

    def check(self, arch: str) -> None:
        self.check_name(arch)
        if self.weights is not None:
            self._subnet(arch)  # reads the file and compares it
            return
        _shipped_weights()
        if self._is_for != WEIGHTS_ARE_FOR:
            channels, n_classes, metric = self._is_for
            raise BnrecalError(
                f"--model: the shipped supernet weights are for 1 channel, 10 classes, map50; this task has "
                f"{channels}, {n_classes}, {metric}; train it, by a [train] table of a study or by "
                "`bnrecal train` and --weights, or name another --model"
            )

    def digest(self, arch: str) -> str:
        path = "-".join(map(str, parse_arch(arch)))
        layers = "" if self.convert is None else f" {self.convert!r}"
        return hashlib.sha256(f"{self._weights_sha256} {path}{layers}".encode()).hexdigest()[:16]

    def build(self, arch: str) -> Network:
        """The subnet with trained weights, mean 0 and variance 1 in every BatchNorm of the shipped ones."""
        from bnrecal.networks.head import detections
        from bnrecal.networks.predictions import class_indices

        predict = class_indices if self._is_for[2] == "top1" else detections
        return Network(self._subnet(arch), predict)

    def candidate(self, layer: int, choice: int) -> "nn.Module | None":
        from torch import nn

        candidates = self._supernet.blocks[layer]
        assert isinstance(candidates, nn.ModuleList)
        return candidates[choice]

    def chain(self, arch: str) -> "tuple[nn.Module, ...] | None":
        from bnrecal.networks.supernet import Block

        if self._is_one_subnet:
            return None
        # a path wraps its operations in blocks of its own: those of one operation count as one
        return tuple(
            self._blocks.setdefault(id(link.operation), link) if isinstance(link, Block) else link
            for link in self._supernet.subnet(parse_arch(arch))
        )

    @functools.cached_property
    def _blocks(self) -> "dict[int, nn.Module]":
        return {}

    @property
    def _is_one_subnet(self) -> bool:
        """Whether the weights are those of a path by itself, as `bnrecal recalibrate` writes them."""
        return self.weights is not None and all(name[:1].isdigit() for name in self._state)

    def _subnet(self, arch: str) -> "nn.Module":
        """A path through the supernet, or the one that `bnrecal recalibrate` wrote by itself."""
        from bnrecal.networks.supernet import Supernet
        from bnrecal.networks.weights_file import load_weights

        path = parse_arch(arch)
        if not self._is_one_subnet:
            subnet: nn.Module = self._supernet.subnet(path)
            return copy.deepcopy(subnet)  # two builds share nothing
        assert self.weights is not None
        subnet = self._converted(Supernet(*self._is_for).subnet(path))
        load_weights(subnet, self._state, self.weights)
        return subnet

    def _converted(self, module: "nn.Module") -> "nn.Module":
        return module if self.convert is None else self.convert(module)

    def learner(self, arch: str | None, seed: int) -> "Learner":
        """The supernet, or one path of it alone, with initial weights drawn by `seed` or those of a file."""
        import torch

        from bnrecal.networks.learner import Learner
        from bnrecal.networks.supernet import Supernet, initialise

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            supernet = Supernet(*self._is_for)
            initialise(supernet)
        head: Literal["grid", "logits"] = "grid" if self._is_for[2] == "map50" else "logits"
        start = f"seed {seed}" if self.weights is None else self._weights_sha256
        facts = f"supernet {self._is_for} {arch and parse_arch(arch)} {start} {self.convert!r}"
        digest = hashlib.sha256(facts.encode()).hexdigest()[:16]
        if arch is not None:
            module = self._subnet(arch) if self.weights is not None else supernet.subnet(parse_arch(arch))
            return Learner(module if self.weights is not None else self._converted(module), digest, head)
        if self.weights is None:
            return Learner(self._converted(supernet), digest, head, choices=_choices)
        return Learner(copy.deepcopy(self._supernet), digest, head, choices=_choices)

    @property
    def _is_for(self) -> tuple[int, int, str]:
        if self.purpose is None:
            return WEIGHTS_ARE_FOR
        return self.purpose.input_shape[0], len(self.purpose.classes), self.purpose.metric

    @functools.cached_property
    def _weights_sha256(self) -> str:
        if self.weights is None:
            return WEIGHTS_SHA256
        try:
            return hashlib.sha256(self.weights.read_bytes()).hexdigest()
        except OSError as error:
            raise BnrecalError(f"--weights: {self.weights} cannot be read: {error.strerror}") from None

    @functools.cached_property
    def _supernet(self) -> Any:  # a Supernet, or what `convert` makes of it
        from safetensors.torch import load

        from bnrecal.networks.supernet import Supernet
        from bnrecal.networks.weights_file import load_weights

        supernet = self._converted(Supernet(*self._is_for))
        if self.weights is None:
            supernet.load_state_dict(load(_shipped_weights()))
        else:
            load_weights(supernet, self._state, self.weights)
        return supernet

    @functools.cached_property
    def _state(self) -> "State":
        from bnrecal.networks.weights_file import read_weights

        assert self.weights is not None
        return read_weights(self.weights)


def _choices(supernet: Any) -> "Choices":
    from bnrecal.networks.learner import Choices

    operations = tuple(tuple(candidates) for candidates in supernet.blocks)
    return Choices(tuple(map(len, operations)), supernet.subnet, operations)
