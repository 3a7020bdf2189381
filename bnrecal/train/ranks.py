"""The processes that train one network together: who this one is, and what they say to each other.

Every process computes every step with its share of the images; all hold the same weights throughout. The
first one (rank 0) alone writes.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from bnrecal.errors import BnrecalError

T = TypeVar("T")

TIMEOUT_S = 600.0  # how long a process waits for the others before it gives up
APART = 1e-5  # relative difference of a tensor's sum that no rounding explains
_TOLD = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # by torchrun


class LostError(BnrecalError):
    """Another process ended or did not answer: it knows why, this one does not."""


@dataclass(frozen=True)
class Ranks:
    """This process is `rank` of `n`. With one process everything here does nothing."""

    rank: int = 0
    n: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def summed(self, value: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.n > 1:
            dist.all_reduce(value)
        return value

    def told(self, value: T) -> T:
        """What the first process has."""
        if self.n == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Over all processes; a parameter has a gradient in all of them, or in none."""
        if self.n == 1:
            return
        grads = [p.grad for p in parameters if p.grad is not None]
        if not grads:
            return
        flat = torch.cat([g.reshape(-1) for g in grads])
        dist.all_reduce(flat)
        for g, summed in zip(grads, torch.split(flat, [g.numel() for g in grads]), strict=True):
            g.copy_(summed.view(g.shape))

    def check_together(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Raise BnrecalError naming a tensor that is not what the first process has."""
        if self.n == 1:
            return
        sums = torch.stack([t.detach().double().sum().to(device) for t in state.values()])
        first = sums.clone()
        dist.broadcast(first, src=0)
        apart = ((sums - first).abs() > APART * (first.abs() + 1)).double()
        dist.all_reduce(apart)
        for name, n_apart in zip(state, apart.tolist(), strict=True):
            if n_apart:
                raise BnrecalError(
                    f"{name}: has come to differ between the {self.n} processes: the network keeps something "
                    "of its own images there; train it in one process"
                )


ALONE = Ranks()


def from_torchrun() -> tuple[int, int, int] | None:
    """(rank, processes, rank on this machine), None where no launcher has set them.

    Raises BnrecalError for numbers that are none.
    """
    if any(name not in os.environ for name in _TOLD):
        return None
    try:
        rank, n = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local = int(os.environ.get("LOCAL_RANK", rank))
    except ValueError:
        raise BnrecalError("RANK, WORLD_SIZE, LOCAL_RANK: whole numbers, as torchrun sets them") from None
    return rank, n, local


@contextmanager
def joined(
    rank: int, n: int, device: torch.device, timeout_s: float = TIMEOUT_S, meeting: str | None = None
) -> Iterator[Ranks]:
    """In here the processes hear each other; `meeting` is a file for those of one machine.

    Raises LostError where another one ended or kept silent for `timeout_s`.
    """
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    how: dict[str, Any] = {"init_method": "env://"} if meeting is None else {"store": _store(meeting, n)}
    try:
        dist.init_process_group(backend, rank=rank, world_size=n, timeout=timedelta(seconds=timeout_s), **how)
        yield Ranks(rank, n)
        dist.barrier()
    except RuntimeError as error:
        if not _is_of_the_others(error):
            raise
        raise LostError(
            f"process {rank} of {n} lost the others: one has ended, or did not answer for {timeout_s:g} s"
        ) from None
    dist.destroy_process_group()


def _store(meeting: str, n: int) -> Any:
    return dist.FileStore(meeting, n)  # type: ignore[attr-defined]


def _is_of_the_others(error: RuntimeError) -> bool:
    """Whether torch.distributed says so; gloo's errors are plain ones."""
    text = str(error)
    return isinstance(error, dist.DistError) or "gloo" in text or "Connection closed by peer" in text
