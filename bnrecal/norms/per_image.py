"""Normalisations that look at each image by itself: GroupNorm and its two ends."""

import torch
from torch import Tensor, nn

from bnrecal.errors import BnrecalError
from bnrecal.norms.followed import Followed
from bnrecal.norms.kernels import normalised, pixel_after_pixel


class GroupNorm(Followed, nn.GroupNorm):
    """torch's GroupNorm, which refuses groups of a single value.

    Over the channels of a group and all pixels, image by image, in train and eval mode alike:
    y = gamma (x - mu) / sqrt(v + eps) + beta with v biased and gamma, beta by channel. A group of one
    channel on a map of one pixel would be normalised to 0 whatever it holds: a forward raises BnrecalError.

    On channels-last inputs torch's kernel takes E[x^2] - E[x]^2, which cancels: for N(10, 1) in float32 its
    outputs were measured 1e-4 off, for N(100, 1) 1e-2. There each group is first moved close to 0.

    Source: Wu & He, "Group Normalization" (2018).
    """

    def forward(self, input: Tensor) -> Tensor:
        n_channels, n_groups = input.shape[1], self.num_groups
        if input.numel() and input[0].numel() == n_groups:
            raise BnrecalError(
                f"{self.called}: a group of one channel on a map of one pixel has no variance "
                f"({n_channels} channels in {n_groups} groups, input of shape {tuple(input.shape)}); use "
                "fewer groups"
            )
        return self.followed(self._normalised(input))

    def _normalised(self, x: Tensor) -> Tensor:
        if not x.numel() or not pixel_after_pixel(x):
            return super().forward(x)
        if self.num_groups == self.num_channels:
            return normalised(x, len(x), self.weight, self.bias, self.eps)[0]
        with torch.no_grad():  # a constant for each group, which changes nothing but the rounding
            by_group = x.movedim(1, -1).reshape(*x.shape[:1], *x.shape[2:], self.num_groups, -1)
            pixels = [*range(1, x.dim() - 1), x.dim()]
            near = by_group.mean(pixels).repeat_interleave(self.num_channels // self.num_groups, 1)
        return super().forward(x - near.view(*near.shape, *[1] * (x.dim() - 2)))


class LayerNorm(GroupNorm):
    """GroupNorm with one group: over (C, H, W) of each image, gamma and beta by channel.

    Source: Ba, Kiros & Hinton, "Layer Normalization" (2016), as Wu & He (2018) use it on images.
    """

    def __init__(self, num_channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__(1, num_channels, eps, affine)


class InstanceNorm(GroupNorm):
    """GroupNorm with one channel a group: over (H, W) of each image and channel.

    Source: Ulyanov, Vedaldi & Lempitsky, "Instance Normalization" (2016).
    """

    def __init__(self, num_channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__(num_channels, num_channels, eps, affine)
