"""BatchNorm evaluated as if every image were in a batch of the size it was trained with."""

from typing import Any

import torch
from torch import Tensor, nn

from bnrecal.errors import BnrecalError
from bnrecal.norms.ghost import _GhostBatchNorm
from bnrecal.norms.grouping import AnyDimensions, n_groups


class _EvalNorm(_GhostBatchNorm):
    """In train mode a BatchNorm over `norm_batch` B consecutive images; in eval mode corrected.

    While training, an image is normalised by statistics in which it takes part itself. With m and v the mean
    and biased variance of one image's P pixels, mu and s2 what a batch of B gives on average (running_mean;
    running_var, which is unbiased, times (BP - 1) / BP), the mean and variance of a batch of this image and
    B - 1 random others are on average

        mean = m / B + (1 - 1/B) mu
        var = v / B + (1 - 1/B) s2 + 1/B (1 - 1/B) (m - mu)^2

    exactly, and eval mode computes y = gamma (x - mean) / sqrt(var + eps) + beta by them. B = 1 is
    InstanceNorm, many images are BatchNorm's own evaluation. The average of what is normalised is another
    thing than normalising by averages: this corrects the first moments alone.

    s2 is what training by batches of B leaves, and `cumulative` or `ema` over batches of B; `pooled` and
    `exact` give the variance of all values together, which is larger by (variance of m) / B: var is then too
    large by (B - 1) / B^2 of that.

    Source: the idea is EvalNorm's (Singh & Shrivastava, ICCV 2019), which mixes an image's own mean and
    second moment with the running ones, by weights that follow a rule of thumb or are learned beside the
    network. Its text was not at hand; the weights here, 1/B for both, are derived as above, not its own.
    """

    def __init__(self, num_features: int, *args: Any, norm_batch: int | None = None, **settings: Any) -> None:
        if norm_batch is None:
            raise BnrecalError("evalnorm: needs norm_batch, the images that training normalises together")
        super().__init__(num_features, *args, norm_batch=norm_batch, **settings)

    def forward(self, input: Tensor) -> Tensor:
        if self.training or not input.numel() or self.running_mean is None:
            return super().forward(input)
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        assert self.norm_batch is not None
        n_groups(input[:1].expand(self.norm_batch, *input.shape[1:]), self.norm_batch, self.called)
        return self.followed(self._corrected(input, self.norm_batch))

    def _corrected(self, input: Tensor, n: int) -> Tensor:
        x = input if input.dtype == torch.float64 else input.float()
        assert self.running_mean is not None
        assert self.running_var is not None
        shape = (1, -1, *[1] * (x.dim() - 2))
        mu, s2 = (t.to(x.dtype).view(shape) for t in (self.running_mean, self.running_var))
        n_values = n * x[0, 0].numel()
        pixels = tuple(range(2, x.dim()))
        v, m = torch.var_mean(x, pixels, correction=0, keepdim=True) if pixels else (torch.zeros_like(x), x)
        away = m - mu  # (images, C, 1, ...)
        mean = mu + away / n
        var = v / n + (1 - 1 / n) * (s2 * ((n_values - 1) / n_values) + away.square() / n)
        scale = (var + self.eps).rsqrt()
        if self.weight is not None:
            scale = self.weight.to(x.dtype).view(shape) * scale
        shift = -mean * scale
        if self.bias is not None:
            shift = shift + self.bias.to(x.dtype).view(shape)
        return torch.addcmul(shift, x, scale).to(input.dtype)


class EvalNorm1d(_EvalNorm, nn.BatchNorm1d):
    __doc__ = _EvalNorm.__doc__


class EvalNorm2d(_EvalNorm, nn.BatchNorm2d):
    __doc__ = _EvalNorm.__doc__


class EvalNorm3d(_EvalNorm, nn.BatchNorm3d):
    __doc__ = _EvalNorm.__doc__


class EvalNorm(AnyDimensions, _EvalNorm):
    __doc__ = _EvalNorm.__doc__
