"""Cross-Iteration Batch Normalization (Yao, Cao, Zheng, Huang & Lin, 2021; 2002.05712)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnrecal.errors import BnrecalError
from bnrecal.norms.derivatives import mean_derivative, variance_derivative
from bnrecal.norms.followed import Followed, check_dimensions, counted
from bnrecal.norms.grouping import averages, check_norm_batch, n_groups
from bnrecal.norms.kernels import moments_with_gradient, normalised

_PAST = ("past_mean", "past_var", "past_weight", "past_mean_derivative", "past_var_derivative")


class CrossIterationBatchNorm2d(Followed, nn.BatchNorm2d):
    """BatchNorm whose statistics are pooled over the last `window` batches, the current one included.

    With theta the weight of the convolution that feeds the layer, mu_s and nu_s the mean of y and of y^2
    in batch s, train mode at step t computes

        mu_s' = mu_s + dmu_s/dtheta_s . (theta_t - theta_s),   nu_s' the same way, s < t
        mu = mean of mu_s',   nu = mean of max(nu_s', mu_s'^2)   over the window, s = t unchanged
        y = gamma (x - mu) / sqrt(nu - mu^2 + eps) + beta

    with the gradient through mu_t and nu_t alone. Until the window is full it holds what there is. The
    variance is kept in the place of nu, v_s' = v_s + dv_s/dtheta . delta - (dmu_s/dtheta . delta)^2, the same
    without cancellation; a negative v_s' counts as 0, so that no root fails.

    `compensate` False leaves the Taylor term out: naive CBN. The first `burn_in` batches (an attribute
    that may be set) are normalised by themselves and not kept. The running statistics average the
    current batch's mean and unbiased variance; eval mode is BatchNorm on them. What is kept of past
    batches is in the state dict. With `norm_batch` n, groups of n consecutive images are batches one
    after another (see _GhostBatchNorm): their weights are the same, so they pool as they are.

    A forward in train mode raises BnrecalError if its input is not the output of that convolution, for
    a number of images that is no whole multiple of `norm_batch`, and for a single value per channel.
    """

    past_mean: Tensor
    past_var: Tensor
    n_seen: Tensor
    n_kept: Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        *,
        window: int = 4,
        burn_in: int = 0,
        compensate: bool = True,
        convolution: nn.Conv2d | None = None,
        norm_batch: int | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_norm_batch(norm_batch)
        _check(window, burn_in)
        super().__init__(num_features, eps, momentum, affine, True, device, dtype)
        self.window, self.burn_in, self.compensate, self.norm_batch = window, burn_in, compensate, norm_batch
        self._convolution: tuple[nn.Conv2d, ...] = ()  # in a tuple, so that it is no submodule of this one
        self._seen: tuple[Tensor, Tensor] | None = None  # its input and output in this forward
        for name in ("n_seen", "n_kept"):  # batches so far; of them, those that went into the past
            self.register_buffer(name, torch.tensor(0, device=device))
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        shapes: list[tuple[int, ...]] = [(num_features,)] * 2
        if compensate and window > 1:
            if convolution is None:
                kind = type(self).__name__
                raise BnrecalError(f"{kind}: compensate=True needs the convolution that feeds it")
            self._convolution = (convolution,)
            convolution.register_forward_hook(self._see, with_kwargs=True)
            # weights as rows (channels, inputs x kernel): 5-dimensional buffers know no channels-last
            n_weights = convolution.weight[0].numel()
            shapes += [(num_features, n_weights), (convolution.groups, n_weights), (num_features, n_weights)]
        for name, shape in zip(_PAST, shapes, strict=False):
            self.register_buffer(name, torch.zeros(window - 1, *shape, device=device, dtype=wide))

    def reset_past(self) -> None:
        """Forget past batches and begin the burn-in anew."""
        self.n_seen.zero_()
        self.n_kept.zero_()

    def let_go(self) -> None:
        """Take the hook off the convolution, before another layer takes this one's place."""
        for convolution in self._convolution:
            hooks = convolution._forward_hooks
            for key in [key for key, hook in hooks.items() if getattr(hook, "__self__", None) is self]:
                del hooks[key]
                convolution._forward_hooks_with_kwargs.pop(key, None)

    def forward(self, input: Tensor) -> Tensor:
        check_dimensions(self, input)
        seen, self._seen = self._seen, None
        if not self.training or not input.numel():
            mean, var = self.running_mean, self.running_var
            return self.followed(F.batch_norm(input, mean, var, self.weight, self.bias, False, 0.0, self.eps))
        g = n_groups(input, self.norm_batch, self.called)
        n_burning = min(g, max(0, self.burn_in - int(self.n_seen)))
        mean, var = moments_with_gradient(input, g, self.eps)
        pooled_mean, pooled_var = self._pooled(mean, var, n_burning)
        own, sigma = (var + self.eps).sqrt(), (pooled_var + self.eps).sqrt()
        scale, shift = own / sigma, (mean - pooled_mean) / sigma
        if self.weight is not None:
            scale, shift = scale * self.weight.to(scale.dtype), shift * self.weight.to(scale.dtype)
        if self.bias is not None:
            shift = shift + self.bias.to(scale.dtype)
        known = mean.detach(), own.detach()
        y = normalised(input, g, scale, shift, self.eps, known)[0]
        with torch.no_grad():
            self._track(mean, var, input.numel() // (g * self.num_features))
            self._keep(mean, var, n_burning, input, seen)
            self.n_seen += g
        return self.followed(y)

    def by_batch(self, input: Tensor) -> Tensor:
        """BatchNorm over the whole batch, no buffer read or written: as recalibration runs it."""
        check_dimensions(self, input)
        self._seen = None
        return self.followed(F.batch_norm(input, None, None, self.weight, self.bias, True, 0.0, self.eps))

    def _pooled(self, mean: Tensor, var: Tensor, n_burning: int) -> tuple[Tensor, Tensor]:
        """Mean and variance (g, C) by which each group is normalised; gradients through its own alone."""
        k, g = self.window, len(mean)
        past_mean, past_var, n_past = self._past(mean.dtype)
        # each group's window (g, C, k), oldest first, itself last
        means, variances = (
            torch.cat([torch.cat([past, now.detach()]).unfold(0, k, 1)[..., :-1], now[..., None]], -1)
            for past, now in ((past_mean, mean), (past_var, var))
        )
        valid = torch.ones(k - 1 + g, dtype=torch.bool, device=mean.device)
        valid[: k - 1 - n_past] = False
        valid[k - 1 : k - 1 + n_burning] = False
        inside = valid.unfold(0, k, 1).clone()
        inside[:n_burning] = False
        inside[:, -1] = True
        share = (inside / inside.sum(1, keepdim=True)).to(mean.dtype)[:, None]  # (g, 1, k)
        pooled = (means * share).sum(-1)
        spread = (means - pooled[..., None]).square()
        return pooled, ((variances + spread) * share).sum(-1)

    @torch.no_grad()
    def _past(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, int]:
        """(mean, variance (window - 1, C) as the present weights would give them, oldest first; how many)."""
        mean, var = self.past_mean, self.past_var
        n_slots, n_kept = self.window - 1, int(self.n_kept)
        if self.compensate and n_slots and n_kept:
            buffers = self._buffers
            weight, d_mean, d_var = (buffers[name] for name in _PAST[2:])
            assert weight is not None
            assert d_mean is not None
            assert d_var is not None
            delta = self._convolution[0].weight.detach().flatten(1).to(weight.dtype) - weight
            by_group = delta.view(n_slots, d_mean.shape[1], -1, delta.shape[-1])
            moved = (by_group @ d_mean[..., None]).view(mean.shape)
            mean = mean + moved
            var = (var + (d_var * delta).sum(-1) - moved.square()).clamp(min=0)
        if n_slots:
            mean, var = (p.roll(-(n_kept % n_slots), 0) for p in (mean, var))
        return mean.to(dtype), var.to(dtype), min(n_slots, n_kept)

    def _track(self, mean: Tensor, var: Tensor, n_values: int) -> None:
        """Take the groups' means and unbiased variances into the running statistics."""
        n_before = counted(self, len(mean))
        assert n_before is not None
        var = var * (n_values / (n_values - 1))
        for buffer, values in ((self.running_mean, mean), (self.running_var, var)):
            assert buffer is not None
            buffer.copy_(averages(buffer, values, self.momentum, n_before)[-1])

    def _keep(
        self, mean: Tensor, var: Tensor, n_burning: int, input: Tensor, seen: tuple[Tensor, Tensor] | None
    ) -> None:
        """Put the last groups that are not burning in among the past, over the oldest."""
        n_slots, g = self.window - 1, len(mean)
        first = max(n_burning, g - n_slots)
        if not n_slots:
            return
        start = int(self.n_kept) + first - n_burning
        for group in range(first, g):
            slot = (start + group - first) % n_slots
            self.past_mean[slot], self.past_var[slot] = mean[group], var[group]
            if self.compensate:
                self._keep_derivatives(slot, group, mean[group], input, seen)
        self.n_kept += g - n_burning

    def _keep_derivatives(
        self, slot: int, group: int, mean: Tensor, input: Tensor, seen: tuple[Tensor, Tensor] | None
    ) -> None:
        """What the Taylor term of this group will need, at the convolution's present weight."""
        convolution = self._convolution[0]
        if seen is None or seen[1] is not input:
            raise BnrecalError(
                f"{self.called}: its input is not the output of the convolution found to feed it"
            )
        size = self.norm_batch or len(input)
        of_group = slice(group * size, (group + 1) * size)
        images, outputs = seen[0][of_group], input.detach()[of_group]
        weight, d_mean, d_var = (self._buffers[name] for name in _PAST[2:])
        assert weight is not None
        assert d_mean is not None
        assert d_var is not None
        weight[slot] = convolution.weight.detach().flatten(1)
        wide = weight.dtype
        images, outputs = images.to(wide), outputs.to(wide)
        d_mean[slot] = mean_derivative(convolution, images, outputs.shape).flatten(1)
        d_var[slot] = variance_derivative(convolution, images, outputs, mean.to(wide)).flatten(1)

    def _see(
        self, convolution: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], output: Tensor
    ) -> None:
        """The convolution's forward hook."""
        if self.training and self.window > 1:
            self._seen = ((args[0] if args else kwargs["input"]).detach(), output)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_seen": None}

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"window={self.window}, burn_in={self.burn_in}, compensate={self.compensate}, "
            f"norm_batch={self.norm_batch}"
        )


def _check(window: object, burn_in: object) -> None:
    for name, value, least in (("window", window, 1), ("burn_in", burn_in, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise BnrecalError(f"{name}={value!r}: a whole number from {least} on")
