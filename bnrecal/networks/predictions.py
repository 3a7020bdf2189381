"""From a network's outputs to predictions: joined over batches, and a classifier's as class indices."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnrecal.errors import BnrecalError
from bnrecal.networks.network import Network

TRIAL_IMAGES = 2
NOT_FINITE = -1  # the class of an image whose logits are not numbers: wrong, and seen by the task


def class_indices(logits: Tensor) -> NDArray[np.int64]:
    """The class of the largest logit; shape (images, classes) -> (images,)."""
    found = logits.argmax(1).masked_fill(~torch.isfinite(logits).all(1), NOT_FINITE)
    result: NDArray[np.int64] = found.cpu().numpy()
    return result


def trial_output(network: Network, shape: tuple[int, int, int]) -> Any:
    """What the network gives for two grey images in eval mode; its modes are put back."""
    modes = [(module, module.training) for module in network.module.modules()]
    try:
        network.module.eval()
        with torch.no_grad():
            return network.forward(network.module, torch.zeros(TRIAL_IMAGES, *shape))
    finally:
        for module, training in modes:
            module.training = training


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
