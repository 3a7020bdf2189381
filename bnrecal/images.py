"""A task's images on a device, as batches of any size, and a network's predictions of them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bnrecal.device import now_s
from bnrecal.errors import BnrecalError
from bnrecal.networks.network import Network
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


@torch.inference_mode()
def evaluation_parts(task: Task, model: nn.Module, network: Network, device: torch.device) -> Parts:
    """Predictions of all evaluation images by `model`, in eval mode, run and read as `network` says."""
    parts: Parts = []
    n, step = task.n_evaluation, read_ahead(task)
    for start in range(0, n, step):
        images = to_input(task, task.evaluation_images(start, min(start + step, n)), device)
        outputs = [network.forward(model, x) for x in torch.split(images, FORWARD_IMAGES)]
        parts.append((start, network.predict(joined_outputs(outputs))))
    return parts


def joined_outputs(outputs: Sequence[Any]) -> Any:
    """Outputs for consecutive images as one: tensors along their first dimension, lists one after another.

    Raises BnrecalError for anything else; a network's `forward` may bring it into such a form.
    """
    if all(isinstance(output, Tensor) for output in outputs):
        return torch.cat(list(outputs))
    if all(isinstance(output, list) for output in outputs):
        return [item for output in outputs for item in output]
    kind = type(outputs[0]).__name__
    raise BnrecalError(
        f"the network gives a {kind} for a batch; needs a tensor, or a list with an entry an image"
    )
