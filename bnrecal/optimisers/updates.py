"""The arithmetic of steps over lists of parameters of one device and dtype."""

import torch
from torch import Tensor

from bnrecal.optimisers.trust import HALF

Rates = float | list[Tensor]  # one for all parameters, or one of shape () a parameter


def add_updates(
    targets: list[Tensor],
    params: list[Tensor],
    grads: list[Tensor],
    rates: Rates,
    weight_decay: float,
    sign: int,
) -> None:
    """targets += sign rates (grads + weight_decay params), in place and without a temporary copy.

    The decay goes first, so that `targets` may be `params` themselves.
    """
    if weight_decay:
        add_scaled(targets, params, rates, sign * weight_decay)
    add_scaled(targets, grads, rates, sign)


def add_scaled(targets: list[Tensor], tensors: list[Tensor], rates: Rates, factor: float) -> None:
    """targets += factor rates tensors, in place."""
    if isinstance(rates, list):
        torch._foreach_addcmul_(targets, tensors, rates, value=factor)
    else:
        torch._foreach_add_(targets, tensors, alpha=factor * rates)


def scaled_sums(
    grads: list[Tensor], params: list[Tensor], decay: float, scales: list[Tensor] | None
) -> list[Tensor]:
    """scales (grads + decay params) in the gradients' dtype; the gradients stay as they are.

    The sum is formed as torch's optimisers form it, so that a scale of 1 changes no bit; half precision is
    scaled by way of float32, since a scale may be out of its range.
    """
    sums = list(torch._foreach_add(grads, params, alpha=decay)) if decay else grads
    if scales is None:
        return sums
    half = sums[0].dtype if sums[0].dtype in HALF else None
    if half:
        sums = [s.float() for s in sums]
    if sums is grads:
        sums = list(torch._foreach_mul(sums, scales))
    else:
        torch._foreach_mul_(sums, scales)
    return [s.to(half) for s in sums] if half else sums


def scaled_sum_into(room: Tensor, grad: Tensor, param: Tensor, decay: float, scale: Tensor | None) -> Tensor:
    """`scaled_sums` of one parameter, written into `room` instead of new memory; bit for bit the same.

    On the processor fresh memory costs more than the arithmetic: its pages are handed out one by one.
    Returns `grad` itself where there is nothing to do.
    """
    total = torch.add(grad, param, alpha=decay, out=room) if decay else grad
    if scale is None:
        return total
    if total.dtype in HALF:
        return room.copy_(total.float() * scale)
    return torch.mul(total, scale, out=room)
