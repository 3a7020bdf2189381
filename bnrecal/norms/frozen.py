"""BatchNorm whose statistics and affine weights are constants."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bnrecal.norms.followed import Followed


class FrozenBatchNorm(Followed):
    """y = gamma (x - mu) / sqrt(var + eps) + beta with constants, in train and eval mode alike.

    All four are buffers under BatchNorm's names, so nothing trains them; a BatchNorm's state dict loads,
    its num_batches_tracked is left out. For inputs (images, C, ...) of any number of dimensions.

    Source: the "frozen BN" of detectors, which train with few images (He et al., "Deep Residual
    Learning", 2016, appendix A); torchvision.ops.FrozenBatchNorm2d.
    """

    running_mean: Tensor
    running_var: Tensor
    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, num_features: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        self.num_features, self.eps, self.affine = num_features, eps, affine
        self.register_buffer("weight", torch.ones(num_features) if affine else None)
        self.register_buffer("bias", torch.zeros(num_features) if affine else None)
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, input: Tensor) -> Tensor:
        mean, var = self.running_mean, self.running_var
        return self.followed(F.batch_norm(input, mean, var, self.weight, self.bias, False, 0.0, self.eps))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        state_dict.pop(f"{prefix}num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, affine={self.affine}"
