"""Layer-wise rates: how far a layer may move, from the norms of its weights and of its gradient.

With w a parameter, g its gradient, beta the weight decay, eta the trust coefficient and |.| the
Euclidean norm over all entries of one parameter, the layer-wise rate is

    lambda = eta |w| / (|g| + beta |w| + eps)

(You, Gitman and Ginsburg 2017, "Large Batch Training of Convolutional Networks", arXiv:1708.03888,
equation 6; eps is NVIDIA apex', the paper has none). A step of size gamma lambda |g + beta w| then moves
the layer by gamma eta of its own norm or less, however large its gradient is.

Where |w| or |g| is 0 the formula says 0 or eta / beta, neither of which is meant: a layer that starts at
zero would never leave it. There the layer-wise rate is 1, so the parameter moves at the plain rate and
keeps its weight decay.

Norms stay on the parameters' device: nothing here waits for it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)


def norms(tensors: Sequence[Tensor]) -> Tensor:
    """Euclidean norms of tensors of one device and dtype: (tensors,), in float32 or better.

    Half-precision entries are squared and summed in float32: in float16 256 squared is infinite already.
    Entries below about 1e-23 have float32 squares of 0 and count as 0.
    """
    dtype = torch.float32 if tensors[0].dtype in HALF else None
    return torch.stack(list(torch._foreach_norm(list(tensors), 2, dtype)))


def layer_rates(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    *,
    trust_coefficient: float,
    weight_decay: float = 0.0,
    eps: float = 0.0,
    clip_at: float | None = None,
) -> Tensor:
    """The layer-wise rate lambda of each parameter: (parameters,).

    With `clip_at`, the rate gamma of the optimiser, min(lambda / gamma, 1) instead: multiplied by gamma it
    is min(lambda, gamma) (LARC's clipping). 1 where the parameter or its gradient is zero.
    """
    w, g = norms(params), norms(grads)  # (parameters,)
    rates = trust_coefficient * w / (g + weight_decay * w + eps)
    if clip_at is not None:
        rates = (rates / clip_at).clamp(max=1.0)
    return torch.where((w > 0) & (g > 0), rates, 1.0)
