"""Random views of a batch of uint8 images, on whatever device it is.

The view of an image in an epoch is a pure function of (seed, epoch, image): it depends neither on the
batch the image is in nor on anything drawn before.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from bnrecal.data.draws import Int64s, draws, stream_key

PADDING = 4  # pixels on each side, 0 as He et al. (2016) pad CIFAR's images

# (images, 3): whether mirrored, first row and column of the crop in the padded image, PADDING for the middle
Views = NDArray[np.int64]


def views(kind: str, seed: int, epoch: int, ids: Int64s) -> Views | None:
    """The views of these images in this epoch; None if they are taken as they are."""
    if kind == "none":
        return None
    found = draws(stream_key("train-augment", seed, epoch), ids, 3)
    reach = 2 * PADDING + 1
    seen = (found % np.array([2, reach, reach], np.uint64)).astype(np.int64)
    if kind == "flip":
        seen[:, 1:] = PADDING
    return seen


def viewed(images: Tensor, seen: Views | None) -> Tensor:
    """Crops at these offsets of the padded images, mirrored where so said; (images, channels, h, w)."""
    if seen is None:
        return images
    height, width = images.shape[-2:]
    if (seen[:, 1:] == PADDING).all():  # nothing is shifted: no need of padding
        seen = seen * np.array([1, 0, 0])
    else:
        images = F.pad(images, [PADDING] * 4)
    mirrored, down, right = torch.from_numpy(seen).to(images.device).unbind(1)
    columns = torch.arange(width, device=images.device)
    columns = torch.where(mirrored[:, None] == 1, columns.flip(0), columns) + right[:, None]  # (images, w)
    rows = torch.arange(height, device=images.device) + down[:, None]  # (images, h)
    image = torch.arange(len(images), device=images.device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[:, None, None]
    return images[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
