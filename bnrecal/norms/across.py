"""Statistics over the images of several processes, each of which holds a part of one batch.

The processes are those of torch.distributed's default group, in the order of their ranks, which is that of
their images. Everything here is a collective: each process has to come to it, in the same order.

With M_r values a channel in process r, mean mu_r and biased variance v_r, and M the sum of M_r,

    mu = sum M_r mu_r / M,   v = sum M_r (v_r + (mu_r - mu)^2) / M

so that parts may be unequal; the sums are made in float64, alike in every process. In the gradient the two
sums of a BatchNorm's backward run over all processes, gamma's and beta's over this one's images: they are
added up as those of other weights are.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.autograd.function import once_differentiable

Affine = Tensor | None  # (C,) or (1, C)


@dataclass
class Shared:
    """How the batch of the present forward is cut: images of each process. Set before every forward."""

    rank: int
    images: tuple[int, ...]

    def gathered(self, values: Tensor, norm_batch: int) -> tuple[Tensor, int]:
        """(what the groups of all processes give, where this one's begin); values (its groups, ...)."""
        layers_images = len(values) * norm_batch // self.images[self.rank]  # more where a layer sees patches
        groups = [n * layers_images // norm_batch for n in self.images]
        padded = values.new_zeros(max(groups), *values.shape[1:])
        padded[: len(values)] = values
        parts = [torch.empty_like(padded) for _ in groups]
        dist.all_gather(parts, padded)
        whole = torch.cat([part[:n] for part, n in zip(parts, groups, strict=True)])
        return whole, sum(groups[: self.rank])


def moments(x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(mean, sqrt(v + eps), M) over all processes of x (images, C, ...), as (1, C), (1, C) and a scalar."""
    wide = at_least_float32(x.detach())
    var, mean = torch.var_mean(wide, _all_but_channels(x), correction=0)
    count = mean.new_full((1,), x.numel() // x.shape[1], dtype=torch.float64)
    own = torch.cat([count, mean.double(), var.double()])
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own)
    every = torch.stack(parts)
    counts, means, variances = torch.split(every, [1, x.shape[1], x.shape[1]], 1)
    n_values = counts.sum()
    whole = (counts * means).sum(0, keepdim=True) / n_values
    spread = (counts * (variances + (means - whole).square())).sum(0, keepdim=True) / n_values
    return whole.to(wide.dtype), (spread + eps).sqrt().to(wide.dtype), n_values


def normalised(x: Tensor, found: tuple[Tensor, Tensor, Tensor], weight: Affine, bias: Affine) -> Tensor:
    """weight (x - mean) / sigma + bias for what `moments` found, whose gradient reaches every process' x."""
    wide = at_least_float32(x)
    flat = [None if p is None else p.to(wide.dtype).reshape(-1) for p in (weight, bias)]
    mean, sigma, n_values = found
    y: Tensor = _Across.apply(wide, mean.view(-1), sigma.view(-1), n_values, *flat)
    return y.to(x.dtype)


def at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _all_but_channels(x: Tensor) -> list[int]:
    return [0, *range(2, x.dim())]


class _Across(torch.autograd.Function):
    """dx = weight / sigma (dy - S(dy) / M - hat S(dy hat) / M), S over all processes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, mean: Tensor, sigma: Tensor, n_values: Tensor, weight: Affine, bias: Affine
    ) -> Tensor:
        ctx.save_for_backward(x, mean, sigma, n_values, weight)
        ctx.has_bias = bias is not None
        scale = sigma.reciprocal() if weight is None else weight / sigma
        shift = -mean * scale if bias is None else bias - mean * scale
        return torch.addcmul(_by_channel(shift, x), x, _by_channel(scale, x))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, sigma, n_values, weight = ctx.saved_tensors
        over = _all_but_channels(x)
        centred = x - _by_channel(mean, x)
        sums, dots = dy.sum(over), (dy * centred).sum(over) / sigma
        dx = None
        if ctx.needs_input_grad[0]:
            means = torch.stack([sums, dots]).double()
            dist.all_reduce(means)
            level, slope = (means / n_values).to(x.dtype)
            scale = sigma.reciprocal() if weight is None else weight / sigma
            dx = torch.addcmul(
                _by_channel(-level * scale, x), centred, _by_channel(-slope * scale / sigma, x)
            )
            dx = dx.addcmul_(dy, _by_channel(scale, x))
        return dx, None, None, None, dots if weight is not None else None, sums if ctx.has_bias else None


def _by_channel(p: Tensor, x: Tensor) -> Tensor:
    return p.view(1, -1, *[1] * (x.dim() - 2))
