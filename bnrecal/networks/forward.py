"""How a batch goes through a network that says nothing of its own."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def plain_forward(model: "nn.Module", images: Any) -> Any:
    """model(images): the images are one float32 tensor (images, channels, height, width)."""
    return model(images)
