"""The embedded network source: subnets of the trained supernet that ships with the package."""

import functools
import hashlib
from importlib.resources import files

from bnrecal.errors import BnrecalError
from bnrecal.networks.network import Network

WEIGHTS = "garments_supernet.safetensors"
WEIGHTS_SHA256 = "8c14fa999dea9c87852c02d4dc42958880a3a04e647b3649cd75e6240028c4dc"
N_BLOCKS, N_OPERATIONS = 8, 4

# The three architectures of the default study, by the digit of the operation taken in each block.
NAMED = {
    "arch1": "0-0-0-0-0-0-0-0",
    "arch2": "2-2-2-2-2-2-2-2",
    "arch3": "3-3-3-3-3-3-3-3",
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
def _weights() -> bytes:
    """The weights file, checked against its digest."""
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
    """The source named in `NetworkSource`."""

    def check(self, arch: str) -> None:
        parse_arch(arch)
        _weights()

    def digest(self, arch: str) -> str:
        path = "-".join(map(str, parse_arch(arch)))
        return hashlib.sha256(f"{WEIGHTS_SHA256} {path}".encode()).hexdigest()[:16]

    def build(self, arch: str) -> Network:
        """The subnet with trained weights, mean 0 and variance 1 in every BatchNorm."""
        from safetensors.torch import load

        from bnrecal.networks.head import detections
        from bnrecal.networks.supernet import Supernet

        supernet = Supernet()
        supernet.load_state_dict(load(_weights()))
        return Network(supernet.subnet(parse_arch(arch)), detections)
