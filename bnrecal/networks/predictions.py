"""From a network's outputs to predictions: joined over batches, and a classifier's as class indices."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree as pytree

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
    """Outputs for consecutive images as one, in the form the module gave them.

    Tensors along their first dimension, lists one after another; tuples, named tuples and dicts (those of
    Hugging Face models too) part by part. A part that is neither, such as a loss or None, is the first
    batch's. Raises BnrecalError for anything else, and for parts that come and go; a network's `forward`
    may bring it into such a form.
    """
    flat = [pytree.tree_flatten(output, is_leaf=lambda part: isinstance(part, list)) for output in outputs]
    leaves, form = flat[0]
    if any(other != form for _, other in flat) or not any(isinstance(p, Tensor | list) for p in leaves):
        kind = type(outputs[0]).__name__
        raise BnrecalError(
            f"the network gives a {kind} for a batch; needs a tensor, a list with an entry an image, or a "
            "tuple or dict of these, the same for every batch"
        )
    return pytree.tree_unflatten(
        [_joined(parts) for parts in zip(*(part for part, _ in flat), strict=True)], form
    )


def _joined(parts: Sequence[Any]) -> Any:
    if all(isinstance(part, Tensor) and part.dim() for part in parts):
        return torch.cat(list(parts))
    if all(isinstance(part, list) for part in parts):
        return [item for part in parts for item in part]
    return parts[0]
