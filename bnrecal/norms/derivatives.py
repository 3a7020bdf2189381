"""How the mean and variance of a convolution's output depend on its weight.

For y = conv(x, w) with M values per output channel (images x height x width), and patch(p) the part of
x that the value y_c(p) looks at:

    dmu_c/dw_c = 1/M sum over p of patch(p),   dv_c/dw_c = 2/M sum over p of (y_c(p) - mu_c) patch(p)

v biased. Both are what the convolution's own backward gives for its weight, so no forward is repeated.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight


def mean_derivative(convolution: nn.Conv2d, x: Tensor, output_shape: torch.Size) -> Tensor:
    """dmu/dw, the same for all output channels of a group: (groups, C_in / groups, kernel height, width).

    Taken from the mean over the images, one output channel for each group.
    """
    mean_image = x.mean(0, keepdim=True)
    n_pixels = output_shape[2] * output_shape[3]
    upstream = mean_image.new_full((1, convolution.groups, *output_shape[2:]), 1 / n_pixels)
    shape = (convolution.groups, *convolution.weight.shape[1:])
    return _weight_gradient(convolution, mean_image, shape, upstream)


def variance_derivative(convolution: nn.Conv2d, x: Tensor, y: Tensor, mean: Tensor) -> Tensor:
    """dv/dw, in the shape of the weight; mean (C,) is that of y."""
    n_values = y.numel() // y.shape[1]
    upstream = (y - mean.view(1, -1, 1, 1)) * (2 / n_values)
    return _weight_gradient(convolution, x, tuple(convolution.weight.shape), upstream)


def _weight_gradient(convolution: nn.Conv2d, x: Tensor, shape: tuple[int, ...], upstream: Tensor) -> Tensor:
    padding = convolution.padding
    around = convolution._reversed_padding_repeated_twice
    if convolution.padding_mode != "zeros":
        x, padding = F.pad(x, around, mode=convolution.padding_mode), (0, 0)
    elif isinstance(padding, str):
        x, padding = F.pad(x, around), (0, 0)
    with torch.autocast(x.device.type, enabled=False):
        gradient: Tensor = conv2d_weight(  # type: ignore[no-untyped-call]
            x, shape, upstream, convolution.stride, padding, convolution.dilation, convolution.groups
        )
    return gradient
