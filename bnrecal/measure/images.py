"""A task's images on a device, as batches of any size, and a network's predictions of them."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from bnrecal.errors import NotANumberError
from bnrecal.host.device import now_s
from bnrecal.networks.network import Network
from bnrecal.networks.predictions import joined_outputs
from bnrecal.tasks.task import Int64s, Task

READ_AHEAD = 512  # images read and predicted at a time, about; fewer if they are large
READ_AHEAD_BYTES = 2**27  # of float32 input in one such reading
FORWARD_IMAGES = 64  # images in one evaluation forward: small enough for the processor's cache

Parts = list[tuple[int, Any]]  # (position of the first image, predictions)


def to_input(task: Task, images: Any, device: torch.device) -> Tensor:
    """The network input for uint8 images as the task reads them, channels last, on the device."""
    tensor = torch.from_numpy(images)
    if device.type == "cuda":
        tensor = tensor.pin_memory().to(device, non_blocking=True)
    return task.to_input(tensor).to(memory_format=torch.channels_last)


def read_ahead(task: Task) -> int:
    """Images to read at a time."""
    return max(1, min(READ_AHEAD, READ_AHEAD_BYTES // (4 * math.prod(task.input_shape))))


def chunks(start: int, stop: int, batch_size: int, about: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges that cover start..stop, `about` so long, of whole batches but for the last."""
    size = max(1, about // batch_size) * batch_size
    for at in range(start, stop, size):
        yield at, min(at + size, stop)


@dataclass
class CalibrationBatches:
    """Batches of the calibration images `ids`, read anew at each iteration; `read_s` is what it took."""

    task: Task
    device: torch.device
    ids: Int64s
    batch_size: int
    read_s: float = 0.0

    def __iter__(self) -> Iterator[Tensor]:
        for start, stop in chunks(0, len(self.ids), self.batch_size, read_ahead(self.task)):
            started = now_s(self.device)
            images = self.task.calibration_images(self.ids[start:stop])
            batches = torch.split(to_input(self.task, images, self.device), self.batch_size)
            self.read_s += now_s(self.device) - started
            yield from batches


@dataclass
class ForwardSize:
    """Images in one evaluation forward: fewer once memory has run out."""

    device: torch.device
    n_images: int = FORWARD_IMAGES

    def run(self, forward: Callable[[int], Any]) -> Any:
        """forward(images at a time), with fewer and fewer images while memory runs out."""
        while True:
            try:
                return forward(self.n_images)
            except Exception as error:
                if not is_out_of_memory(error) or self.n_images == 1:
                    raise
            self.n_images //= 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the host or the GPU had no memory left, said by `error` or by what caused it."""
    # torch's allocator for the host has no exception of its own
    host = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    if host or isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return error.__cause__ is not None and is_out_of_memory(error.__cause__)


@torch.inference_mode()
def evaluation_parts(
    task: Task,
    model: nn.Module,
    network: Network,
    device: torch.device,
    size: ForwardSize | None = None,
    only_numbers: bool = False,
) -> Parts:
    """Predictions of all evaluation images by `model`, in eval mode, run and read as `network` says.

    With `only_numbers` NaN in an output is a NotANumberError: it would score 0 and pass for a bad network.
    """
    parts: Parts = []
    size = size or ForwardSize(device)
    n, step = task.n_evaluation, read_ahead(task)
    for start in range(0, n, step):
        images = to_input(task, task.evaluation_images(start, min(start + step, n)), device)

        def forward(at_once: int, images: Tensor = images) -> Any:
            return joined_outputs([network.forward(model, x) for x in torch.split(images, at_once)])

        output = size.run(forward)
        if only_numbers:
            check_numbers(output)
        parts.append((start, network.predict(output)))
    return parts


def check_numbers(output: Any) -> None:
    """Raises NotANumberError if NaN is among these outputs of evaluation images."""
    leaves = pytree.tree_leaves(output)
    if any(isinstance(part, Tensor) and bool(part.isnan().any()) for part in leaves):
        raise NotANumberError("the network's output for evaluation images is not a number (NaN)")
