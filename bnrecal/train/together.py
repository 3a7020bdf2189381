"""What a step does besides when several processes share it: statistics, gradients."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bnrecal.errors import BnrecalError
from bnrecal.norms.across import Shared
from bnrecal.norms.synchronised import synchronise
from bnrecal.train.ranks import Ranks

# Statistics are made alike in every process: no forward has to copy them from the first one. PyTorch 2.14
# has another name for it.
_SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
)
Forward = Callable[[nn.Module, Any], Any]


class _Whole(nn.Module):
    """A module whose forward is that of its network source, for DistributedDataParallel to call."""

    def __init__(self, module: nn.Module, forward: Forward) -> None:
        super().__init__()
        self.module, self._how = module, forward

    def forward(self, images: Any) -> Any:
        return self._how(self.module, images)


class Together:
    """A step of `ranks`. With one process everything here does nothing.

    Each process has the gradient of its part of the batch's loss, whose sum is the batch's. For one network
    DistributedDataParallel adds them up while they are made; a path of a supernet, which leaves most weights
    without a gradient, is added up when the step's gradients are there.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self.shared = Shared(ranks.rank, (1,) * ranks.n)
        self.whole: DistributedDataParallel | None = None

    @property
    def scale(self) -> float:
        """What a loss is multiplied by, since DistributedDataParallel divides by the processes."""
        return 1.0 if self.whole is None else float(self.ranks.n)

    def synchronised(self, module: nn.Module) -> nn.Module:
        return module if self.ranks.n == 1 else synchronise(module, self.shared)

    def wrapped(self, module: nn.Module, forward: Forward) -> Forward:
        """The forward of this module through DistributedDataParallel."""
        if self.ranks.n == 1:
            return forward
        settings: dict[str, Any] = {_SYNC_BUFFERS: False}
        whole = DistributedDataParallel(_Whole(module, forward), **settings)
        self.whole = whole

        def through(_: nn.Module, images: Any) -> Any:
            try:
                return whole(images)
            except RuntimeError as error:
                if "Expected to have finished reduction" not in str(error):
                    raise
                raise BnrecalError(
                    "--model: some weights of the network take no part in its output, which several "
                    "processes cannot train; use one process"
                ) from None

        return through

    @contextmanager
    def forward(self, shares: list[slice], is_last: bool) -> Iterator[None]:
        """A forward and its gradients; the images of each process, and whether it is the last of a step."""
        self.shared.images = tuple(share.stop - share.start for share in shares)
        if self.whole is None or is_last:
            yield
            return
        with self.whole.no_sync():
            yield

    def end_step(self, parameters: Iterable[Tensor]) -> None:
        """All gradients of this process are there."""
        if self.whole is None:
            self.ranks.sum_gradients(parameters)
