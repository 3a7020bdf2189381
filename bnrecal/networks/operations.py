"""The candidate operations of a choice block: four ways from one tensor to the next.

Each ends in an affine BatchNorm, so that a choice can be judged by its BatchNorm parameters alone
(BN-NAS, Chen et al., ICCV 2021) and every path has statistics of its own. None ends in an activation:
the block adds its shortcut first.
"""

from collections.abc import Callable

from torch import nn


def conv_norm(n_in: int, n_out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution without bias and its BatchNorm; "same" padding, output side / stride."""
    conv = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(n_out)]


def _pointwise(width: int) -> nn.Sequential:
    return nn.Sequential(*conv_norm(width, width))


def _bottleneck(width: int) -> nn.Sequential:
    middle = width // 2
    return nn.Sequential(*conv_norm(width, middle), nn.ReLU(), *conv_norm(middle, width, 3))


def _separable(width: int) -> nn.Sequential:
    return nn.Sequential(*conv_norm(width, width, 5, groups=width), nn.ReLU(), *conv_norm(width, width))


def _full(width: int) -> nn.Sequential:
    return nn.Sequential(*conv_norm(width, width, 3))


# The digit of an architecture's name is the position in this table.
OPERATIONS: tuple[tuple[str, Callable[[int], nn.Sequential]], ...] = (
    ("conv1x1", _pointwise),
    ("bottleneck3x3", _bottleneck),
    ("separable5x5", _separable),
    ("conv3x3", _full),
)
