"""Normalising by the mean and variance of each group of images and channel.

Two ways, by how the input lies in memory; both leave it as it is:

- channel after channel (torch's default): torch.native_group_norm with as many groups as channels takes
  statistics over the rest, so that groups of images become channels of one image,
  (g n, C, L) -> (1, g C, n L). It is several times faster than the BatchNorm kernel, which adds up one
  value after the other;
- pixel after pixel (channels-last, or no pixels at all): the BatchNorm kernel for one group; for several,
  rows (g, n L, C) reduced over the second dimension. Here the group kernel takes E[x^2] - E[x]^2, which
  cancels.

Everything is computed in at least float32, whatever the activations are.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Affine = Tensor | None  # (C,), or (g, C) for groups that differ


Known = tuple[Tensor, Tensor] | None  # what `moments` gave


def normalised(
    x: Tensor, g: int, weight: Affine, bias: Affine, eps: float, known: Known = None
) -> tuple[Tensor, Tensor, Tensor]:
    """(y, mean, sigma) of x (g n, C, ...) with sigma = sqrt(v + eps), v biased.

    y = weight (x - mean) / sigma + bias, in the precision and memory format of x; the gradient takes
    mean and sigma for what they are, functions of x. The other two have shape (g, C) and no gradient;
    `known` gives them, where they are not to be worked out again.
    """
    wide = x if x.dtype == torch.float64 else x.float()
    weight, bias = (None if p is None else p.to(wide.dtype) for p in (weight, bias))
    if pixel_after_pixel(x) and g == 1:
        y, mean, sigma = _whole(wide, weight, bias, eps)
    elif pixel_after_pixel(x):
        mean, sigma = known or _row_moments(_rows(wide.detach(), g), eps)
        y = _Rows.apply(_rows(wide, g), mean[:, None], sigma[:, None], _by_group(weight), _by_group(bias))
        y = y.view(wide.movedim(1, -1).shape).movedim(-1, 1)
    else:
        y, mean, sigma = _by_channels(wide, g, weight, bias, eps)
    return y.to(x.dtype), mean, sigma


def moments(x: Tensor, g: int, eps: float) -> tuple[Tensor, Tensor]:
    """(mean, sqrt(v + eps)) of each group and channel, (g, C), in at least float32, without gradient."""
    wide = x.detach() if x.dtype == torch.float64 else x.detach().float()
    if pixel_after_pixel(x):
        return _whole(wide, None, None, eps)[1:] if g == 1 else _row_moments(_rows(wide, g), eps)
    return _by_channels(wide, g, None, None, eps)[1:]


def moments_with_gradient(x: Tensor, g: int, eps: float) -> tuple[Tensor, Tensor]:
    """`moments`, through which gradients reach x; v, the biased variance, in the place of its root."""
    mean, var = _Moments.apply(x if x.dtype == torch.float64 else x.float(), g, eps)
    return mean, var


def unbiased(sigma: Tensor, eps: float, n_values: int) -> Tensor:
    """The unbiased variance of n values for sigma = sqrt(v + eps), v the biased one."""
    return (sigma.square() - eps).clamp(min=0) * (n_values / (n_values - 1))


def pixel_after_pixel(x: Tensor) -> bool:
    """Whether the channels of a pixel lie side by side in x (images, C, ...)."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    last = x.dim() in formats and x.is_contiguous(memory_format=formats[x.dim()])
    return x.dim() == 2 or (last and not x.is_contiguous())


def _whole(x: Tensor, weight: Affine, bias: Affine, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """One group of all images, by the BatchNorm kernel."""
    w, b = (None if p is None else p.reshape(-1) for p in (weight, bias))
    y, mean, inverse = torch.native_batch_norm(x, w, b, None, None, True, 0.0, eps)
    return y, mean[None], inverse.reciprocal()[None]


def _by_channels(
    x: Tensor, g: int, weight: Affine, bias: Affine, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    n_images, c = x.shape[:2]
    by_channel = x.reshape(g, n_images // g, c, -1).transpose(1, 2)  # (g, C, n, L)
    rows = by_channel.reshape(1, g * c, -1)
    w, b = (None if p is None else p.expand(g, c).reshape(-1) for p in (weight, bias))
    y, mean, inverse = torch.native_group_norm(rows, w, b, 1, g * c, rows.shape[-1], g * c, eps)
    y = y.view(by_channel.shape).transpose(1, 2).reshape(x.shape)
    return y, mean.view(g, c), inverse.reciprocal().view(g, c)


def _rows(x: Tensor, g: int) -> Tensor:
    """(g n, C, ...) -> (g, values, C); no copy if x lies pixel after pixel."""
    return x.movedim(1, -1).reshape(g, -1, x.shape[1])


def _by_group(p: Affine) -> Affine:
    """(C,) or (g, C) -> (1 or g, 1, C)."""
    return None if p is None else p.view(-1, 1, p.shape[-1])


def _row_moments(rows: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    mean = rows.mean(1, keepdim=True)
    var = (rows - mean).square_().mean(1)
    return mean.squeeze(1), var.add_(eps).sqrt_()


class _Rows(torch.autograd.Function):
    """weight (x - mean) / sigma + bias for rows x (g, M, C), all else (1 or g, 1, C).

    mean and sigma are those of x. With dy what flows back and means over M,
    dx = weight / sigma (dy - mean(dy) - hat mean(dy hat)), hat = (x - mean) / sigma.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, mean: Tensor, sigma: Tensor, weight: Affine, bias: Affine) -> Tensor:
        ctx.save_for_backward(rows, mean, sigma, weight)
        ctx.shapes = [None if p is None else p.shape for p in (weight, bias)]
        scale = sigma.reciprocal() if weight is None else weight / sigma
        shift = -mean * scale if bias is None else bias - mean * scale
        return torch.addcmul(shift, rows, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        rows, mean, sigma, weight = ctx.saved_tensors
        n_values = rows.shape[1]
        centred = rows - mean
        sums = dy.sum(1, keepdim=True)
        dots = (dy * centred).sum(1, keepdim=True) / sigma
        dx = None
        if ctx.needs_input_grad[0]:
            scale = sigma.reciprocal() if weight is None else weight / sigma
            slope, level = dots * scale / (-n_values * sigma), sums * scale / -n_values
            dx = torch.addcmul(level, centred, slope).addcmul_(dy, scale)
        of_affine = [
            None if shape is None else p.sum_to_size(shape)
            for p, shape in zip((dots, sums), ctx.shapes, strict=True)
        ]
        return dx, None, None, *of_affine


class _Moments(torch.autograd.Function):
    """(mean, v), each (g, C), of x (g n, C, ...): dx = (dmean + 2 dv (x - mean)) / M, M values each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, g: int, eps: float) -> tuple[Tensor, Tensor]:
        mean, sigma = moments(x, g, eps)
        ctx.save_for_backward(x, mean)
        return mean, (sigma.square() - eps).clamp(min=0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dmean: Tensor, dvar: Tensor) -> tuple[Tensor | None, ...]:
        x, mean = ctx.saved_tensors
        g, c = mean.shape
        n_values = x.numel() // (g * c)
        slope = 2 * dvar / n_values
        level = dmean / n_values - slope * mean
        shape = (g, 1, c, *[1] * (x.dim() - 2))
        images = x.view(g, -1, *x.shape[1:])
        return torch.addcmul(level.view(shape), images, slope.view(shape)).view(x.shape), None, None
