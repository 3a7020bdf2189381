"""Where memory runs out: evaluation goes on with fewer images a forward, recalibration says so.

A layer asks for so much memory that 64 images at a time do not fit and 16 do; the allocator's own error is
what is met. A batch of recalibration never shrinks, since its size decides the statistics: that fails, and
leaves the network as it was.
"""

from typing import Any

import torch
from place import Place
from torch import Tensor, nn

import bnrecal
from bnrecal.measure.images import FORWARD_IMAGES, ForwardSize, is_out_of_memory

FITS = 20  # images at a time


def greedy(place: Place) -> nn.Module:
    """The network behind a layer that asks for memory by the number of its images."""
    model = place.network()
    on_gpu = place.device.type == "cuda"
    each = torch.cuda.mem_get_info(place.device)[0] // (FITS + 4) if on_gpu else 0

    def ask(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        n = len(inputs[0])
        torch.empty(
            n * each if on_gpu else (2**56 if n > FITS else 1), dtype=torch.uint8, device=place.device
        )

    model.register_forward_pre_hook(ask)
    return model


def evaluated(place: Place, images: Tensor) -> tuple[int, float]:
    """(images at a time in the end, largest difference from a network that has memory enough)."""
    model, size = greedy(place), ForwardSize(place.device)
    with torch.inference_mode():
        found = size.run(lambda n: torch.cat([model(x) for x in images.split(n)]))
        expected = torch.cat([place.network()(x) for x in images.split(size.n_images)])
    return size.n_images, float((found - expected).abs().max())


def refused(place: Place, images: Tensor) -> tuple[bool, bool]:
    """(whether recalibration ran out of memory, whether the statistics stayed)."""
    model = greedy(place)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    try:
        bnrecal.recalibrate(model, [images])
    except Exception as error:
        stayed = all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
        return is_out_of_memory(error), stayed
    return False, False


def measure(place: Place) -> dict[str, Any]:
    images = place.images(FORWARD_IMAGES)
    at_once, error = evaluated(place, images)
    out_of_memory, stayed = refused(place, images)
    return {
        "evaluation_images_at_once": at_once,
        "evaluation_error": error,
        "recalibration_out_of_memory": out_of_memory,
        "statistics_stayed": stayed,
        "passed": 1 <= at_once <= FITS and error <= 1e-4 and out_of_memory and stayed,
    }
