"""Ghost BatchNorm: statistics over groups of `norm_batch` consecutive images of a batch."""

from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F
from torch.nn.modules._functions import SyncBatchNorm
from torch.nn.modules.batchnorm import _BatchNorm

from bnrecal.norms import across
from bnrecal.norms.across import Shared
from bnrecal.norms.followed import Followed, check_dimensions, counted
from bnrecal.norms.grouping import AnyDimensions, averages, check_norm_batch, n_groups
from bnrecal.norms.kernels import normalised, unbiased


class _GhostBatchNorm(Followed, _BatchNorm):
    """BatchNorm whose batch is `norm_batch` images, however many a forward holds.

    In train mode, with group j of n images giving M values per channel, mean mu_j and biased variance
    v_j, an image x of that group becomes

        y = gamma (x - mu_j) / sqrt(v_j + eps) + beta

    and the running statistics are those that the groups leave one after another: g updates with mu_j and
    the unbiased v_j M / (M - 1), num_batches_tracked + g. Outputs, gradients and statistics are those of
    g forwards of a plain BatchNorm. In eval mode it is one, and its state dict is one's: weights
    trained here load into the plain network.

    A forward raises BnrecalError for a number of images that is no whole multiple of `norm_batch`, and
    for a single value per channel in a group. norm_batch None means the whole batch.

    `shared` (see bnrecal.norms.across) makes the images of several processes one batch.

    Source: Hoffer, Hubara & Soudry, "Train longer, generalize better" (2017), section 4, there with
    weighted running statistics; here PyTorch's.
    """

    shared: Shared | None = None

    def __init__(self, num_features: int, *args: Any, norm_batch: int | None = None, **settings: Any) -> None:
        check_norm_batch(norm_batch)
        super().__init__(num_features, *args, **settings)
        self.norm_batch = norm_batch

    def forward(self, input: Tensor) -> Tensor:
        check_dimensions(self, input)
        if not self.training or not input.numel():
            mean, var = self.running_mean, self.running_var
            by_batch = mean is None and input.numel() > 0
            y = F.batch_norm(input, mean, var, self.weight, self.bias, by_batch, 0.0, self.eps)
            return self.followed(y)
        if self.shared is not None and self.norm_batch is None:
            return self.followed(self._torchs(input) if input.is_cuda else self._across(input))
        g = n_groups(input, self.norm_batch, self.called)
        y, mean, sigma = normalised(input, g, self.weight, self.bias, self.eps)
        if self._tracks:
            with torch.no_grad():
                n_values = input.numel() // (g * self.num_features)
                self._track(mean, unbiased(sigma, self.eps, n_values))
        return self.followed(y)

    @property
    def _tracks(self) -> bool:
        return self.running_mean is not None and self.track_running_stats

    def _across(self, input: Tensor) -> Tensor:
        """The images of all processes as one group."""
        found = mean, sigma, n_values = across.moments(input, self.eps)
        if self._tracks:
            with torch.no_grad():
                var = (sigma.square() - self.eps).clamp(min=0) * (n_values / (n_values - 1)).to(sigma.dtype)
                self._update(mean, var)
        return across.normalised(input, found, self.weight, self.bias)

    def _torchs(self, input: Tensor) -> Tensor:
        """The same by PyTorch's SyncBatchNorm, whose kernels are for GPUs alone."""
        n_before = counted(self, 1) if self._tracks else None
        momentum = self.momentum if self.momentum is not None else 1 / ((n_before or 0) + 1)
        buffers = (self.running_mean, self.running_var) if n_before is not None else (None, None)
        group = dist.group.WORLD
        affine = (self.weight, self.bias)
        y: Tensor = SyncBatchNorm.apply(
            input, *affine, *buffers, self.eps, momentum, group, dist.get_world_size()
        )
        return y

    def by_batch(self, input: Tensor) -> Tensor:
        """The whole batch as one group, no buffer read or written: as recalibration runs it."""
        check_dimensions(self, input)
        y = F.batch_norm(input, None, None, self.weight, self.bias, True, 0.0, self.eps)
        return self.followed(y)

    def _track(self, mean: Tensor, var: Tensor) -> None:
        """Take the groups' means and unbiased variances (groups, C) into the running statistics."""
        if self.shared is not None:
            assert self.norm_batch is not None
            every, _ = self.shared.gathered(torch.stack([mean, var], 1), self.norm_batch)
            mean, var = every.unbind(1)
        self._update(mean, var)

    def _update(self, mean: Tensor, var: Tensor) -> None:
        n_before = counted(self, len(mean))
        if n_before is None:
            return
        for buffer, values in ((self.running_mean, mean), (self.running_var, var)):
            assert buffer is not None
            buffer.copy_(averages(buffer, values, self.momentum, n_before)[-1])

    def extra_repr(self) -> str:
        return f"{_BatchNorm.extra_repr(self)}, norm_batch={self.norm_batch}"  # type: ignore[no-untyped-call]


class GhostBatchNorm1d(_GhostBatchNorm, nn.BatchNorm1d):
    """For (images, C) and (images, C, length); see _GhostBatchNorm."""

    __doc__ = _GhostBatchNorm.__doc__


class GhostBatchNorm2d(_GhostBatchNorm, nn.BatchNorm2d):
    __doc__ = _GhostBatchNorm.__doc__


class GhostBatchNorm3d(_GhostBatchNorm, nn.BatchNorm3d):
    __doc__ = _GhostBatchNorm.__doc__


class GhostBatchNorm(AnyDimensions, _GhostBatchNorm):
    __doc__ = _GhostBatchNorm.__doc__
