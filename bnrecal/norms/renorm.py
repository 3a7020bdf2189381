"""Batch Renormalization (Ioffe, "Batch Renormalization", 2017, algorithm 1)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from bnrecal.errors import BnrecalError
from bnrecal.norms import across
from bnrecal.norms.across import Shared
from bnrecal.norms.followed import Followed, check_dimensions, counted
from bnrecal.norms.grouping import AnyDimensions, averages, check_norm_batch, n_groups
from bnrecal.norms.kernels import moments, normalised


class _BatchRenorm(Followed, _BatchNorm):
    """BatchNorm whose batch statistics are corrected towards the running ones.

    With the batch's mean mu_B and sigma_B = sqrt(v_B + eps), v_B biased, and the running mu and sigma as
    they stood *before* this batch, train mode computes

        r = clip(sigma_B / sigma, 1 / rmax, rmax),   d = clip((mu_B - mu) / sigma, -dmax, dmax)
        y = gamma ((x - mu_B) / sigma_B  r + d) + beta

    with no gradient through r and d, and then mu += a (mu_B - mu), sigma += a (sigma_B - sigma):
    `running_std` tracks sigma itself, eps inside. Eval mode is gamma (x - mu) / sigma + beta with no
    further eps. rmax 1, dmax 0 is BatchNorm; without bounds (infinity) train mode equals eval mode under
    the statistics before the batch. `rmax` and `dmax` may be set at any time: the paper holds 1 and 0 for
    5,000 steps, then raises rmax to 3 by step 40,000 and dmax to 5 by step 25,000.

    `running_var` is what running_std says of the variance, running_std^2 - eps; it is no buffer.
    momentum None is a plain mean over batches, as in PyTorch. With `norm_batch` n, groups of n
    consecutive images are batches one after another (see _GhostBatchNorm), each corrected by the
    statistics that the groups before it left.

    A forward raises BnrecalError for a number of images that is no whole multiple of `norm_batch`, for
    a single value per channel, and for rmax < 1 or dmax < 0.
    """

    running_std: Tensor
    shared: Shared | None = None  # see _GhostBatchNorm

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-3,
        momentum: float | None = 0.01,
        rmax: float = 1.0,
        dmax: float = 0.0,
        affine: bool = True,
        *,
        norm_batch: int | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_norm_batch(norm_batch)
        super().__init__(num_features, eps, momentum, affine, False, device, dtype)
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            del self._buffers[name]
        self.track_running_stats = True
        self.rmax, self.dmax, self.norm_batch = rmax, dmax, norm_batch
        self.register_buffer("running_mean", torch.zeros(num_features, device=device, dtype=dtype))
        self.register_buffer("running_std", torch.ones(num_features, device=device, dtype=dtype))
        self.register_buffer("num_batches_tracked", torch.tensor(0, device=device))
        self._check_bounds()

    @property
    def running_var(self) -> Tensor:  # type: ignore[override]
        """The variance in running_std: running_std^2 - eps, at least 0."""
        return (self.running_std.square() - self.eps).clamp(min=0)

    def reset_running_stats(self) -> None:
        """Mean 0, sigma 1."""
        if self.track_running_stats:
            assert self.running_mean is not None
            assert self.num_batches_tracked is not None
            self.running_mean.zero_()
            self.running_std.fill_(1)
            self.num_batches_tracked.zero_()

    def forward(self, input: Tensor) -> Tensor:
        check_dimensions(self, input)
        if not self.training or not input.numel():
            return self.followed(self._evaluated(input))
        self._check_bounds()
        if self.shared is not None and self.norm_batch is None:
            return self.followed(self._across(input))
        g = n_groups(input, self.norm_batch, self.called)
        if self.rmax == 1 and self.dmax == 0:
            y, mean, sigma = normalised(input, g, self.weight, self.bias, self.eps)
            self._track(mean, sigma)
            return self.followed(y)
        mean, sigma = moments(input, g, self.eps)
        scale, shift = self._corrected(mean, sigma)
        return self.followed(normalised(input, g, scale, shift, self.eps, (mean, sigma))[0])

    def _across(self, input: Tensor) -> Tensor:
        """The images of all processes as one group."""
        found = mean, sigma, _ = across.moments(input, self.eps)
        return across.normalised(input, found, *self._corrected(mean, sigma))

    def _corrected(self, mean: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """gamma r and gamma d + beta of each group (g, C), which is taken into the running statistics."""
        old_mean, old_sigma = self._track(mean, sigma)
        r = (sigma / old_sigma).clamp(1 / self.rmax, self.rmax)
        d = ((mean - old_mean) / old_sigma).clamp(-self.dmax, self.dmax)
        weight, bias = self.weight, self.bias
        scale = r if weight is None else weight.to(r.dtype) * r
        shift = d if weight is None else weight.to(r.dtype) * d
        return scale, shift if bias is None else shift + bias.to(r.dtype)

    def by_batch(self, input: Tensor) -> Tensor:
        """BatchNorm over the whole batch, no buffer read or written: as recalibration runs it."""
        check_dimensions(self, input)
        y = F.batch_norm(input, None, None, self.weight, self.bias, True, 0.0, self.eps)
        return self.followed(y)

    def _evaluated(self, input: Tensor) -> Tensor:
        wide = input if input.dtype == torch.float64 else input.float()
        assert self.running_mean is not None
        inverse = self.running_std.to(wide.dtype).reciprocal()
        scale = inverse if self.weight is None else self.weight.to(wide.dtype) * inverse
        shift = -self.running_mean.to(wide.dtype) * scale
        if self.bias is not None:
            shift = shift + self.bias.to(wide.dtype)
        shape = (1, -1, *[1] * (input.dim() - 2))
        return torch.addcmul(shift.view(shape), wide, scale.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Take each group's (g, C) into the running ones; returns those as each group found them."""
        assert self.running_mean is not None
        own = slice(0, len(mean))
        if self.shared is not None and self.norm_batch is not None:
            every, first = self.shared.gathered(torch.stack([mean, sigma], 1), self.norm_batch)
            own = slice(first, first + len(mean))
            mean, sigma = every.unbind(1)
        n_before = counted(self, len(mean))
        assert n_before is not None
        means = averages(self.running_mean, mean, self.momentum, n_before)
        sigmas = averages(self.running_std, sigma, self.momentum, n_before)
        self.running_mean.copy_(means[-1])
        self.running_std.copy_(sigmas[-1])
        return means[:-1][own], sigmas[:-1][own]

    def _check_bounds(self) -> None:
        for name, value, least in (("rmax", self.rmax, 1), ("dmax", self.dmax, 0)):
            if not value >= least:
                raise BnrecalError(f"{self.called}: {name}={value!r}; valid from {least} on")

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, rmax={self.rmax}, "
            f"dmax={self.dmax}, affine={self.affine}, norm_batch={self.norm_batch}"
        )


class BatchRenorm1d(_BatchRenorm, nn.BatchNorm1d):
    __doc__ = _BatchRenorm.__doc__


class BatchRenorm2d(_BatchRenorm, nn.BatchNorm2d):
    __doc__ = _BatchRenorm.__doc__


class BatchRenorm3d(_BatchRenorm, nn.BatchNorm3d):
    __doc__ = _BatchRenorm.__doc__


class BatchRenorm(AnyDimensions, _BatchRenorm):
    __doc__ = _BatchRenorm.__doc__
