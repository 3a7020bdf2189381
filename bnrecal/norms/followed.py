"""What every layer of this room has in common."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class Followed(nn.Module):
    """A layer that carries on the drop and the activation which timm's BatchNorms hold.

    They are submodules `drop` and `act`, as in timm.layers.BatchNormAct2d, or absent; their weights
    keep their names in the state dict.
    """

    layer_name = ""  # where `convert` put it, for messages

    def followed(self, y: Tensor) -> Tensor:
        """y after drop and activation, where there are any."""
        for name in ("drop", "act"):
            after = self._modules.get(name)
            if after is not None:
                y = after(y)
        return y

    @property
    def called(self) -> str:
        """The layer as an error message names it."""
        return self.layer_name or f"the {type(self).__name__}"


def check_dimensions(layer: _BatchNorm, x: Tensor) -> None:
    """Raise ValueError, as torch's layers do, for a number of dimensions that is not this layer's."""
    check: Callable[[Tensor], None] = layer._check_input_dim
    check(x)


def counted(layer: _BatchNorm, n_updates: int) -> int | None:
    """Count these updates in num_batches_tracked; returns how many came before, where that matters.

    None if nothing is to be updated: as in PyTorch, a plain mean (momentum None) of an unknown number
    of batches goes nowhere.
    """
    counter, by_momentum = layer.num_batches_tracked, layer.momentum is not None
    if counter is None:
        return 0 if by_momentum else None
    n_before = 0 if by_momentum else int(counter)
    counter.add_(n_updates)
    return n_before
