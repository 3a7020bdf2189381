"""Normalisations in the place of BatchNorm.

    from bnrecal import norms

    small = norms.convert(model, "bn", norm_batch=4)   # a copy; model stays as it is
    norms.conversion_of(small).converted               # {layer: what stands there now}

>>> from torch import nn
>>> from bnrecal import norms
>>> type(norms.convert(nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8)), "gn", groups=4)[1]).__name__
'GroupNorm'

With mu, v the mean and biased variance of the values named, gamma and beta by channel, every norm is
y = gamma (x - mu) / sqrt(v + eps) + beta, but for what stands here:

| norm      | mu and v over                                             | source                            |
| :-------- | :-------------------------------------------------------- | :-------------------------------- |
| bn        | the batch (Ioffe & Szegedy 2015); each `norm_batch`       | Hoffer, Hubara & Soudry 2017      |
|           | consecutive images of it (ghost BatchNorm)                |                                   |
| brn       | the batch, then times r and plus d towards the running    | Ioffe 2017 (Batch                 |
|           | mean and sigma                                            | Renormalization)                  |
| cbn       | the last `window` batches, moved to the present weights   | Yao et al. 2021                   |
|           | by a Taylor term                                          | (Cross-Iteration BN)              |
| naive-cbn | the last `window` batches as they were                    | the same, its baseline            |
| evalnorm  | as bn in training; in evaluation what a batch of          | the idea: Singh & Shrivastava 2019|
|           | `norm_batch` with this image in it has on average         | (EvalNorm); the weights: here     |
| gn        | each image and group of channels                          | Wu & He 2018 (Group Normalization)|
| ln        | each image: (C, H, W)                                     | Ba, Kiros & Hinton 2016           |
| in        | each image and channel: (H, W)                            | Ulyanov, Vedaldi & Lempitsky 2016 |
| frozen    | constants: the running statistics, gamma and beta as well | He et al. 2016                    |

bn, brn, cbn, naive-cbn and evalnorm keep running statistics and evaluate by them, so `bnrecal.recalibrate`
re-estimates them; running variances are unbiased, BRN's running_std is sqrt(v + eps). gn, ln and in have
none, in frozen they are constants: there is nothing to recalibrate.
"""

from bnrecal.norms.conversion import Conversion, conversion_of
from bnrecal.norms.convert import convert
from bnrecal.norms.cross_iteration import CrossIterationBatchNorm2d
from bnrecal.norms.evalnorm import EvalNorm, EvalNorm1d, EvalNorm2d, EvalNorm3d
from bnrecal.norms.frozen import FrozenBatchNorm
from bnrecal.norms.ghost import GhostBatchNorm, GhostBatchNorm1d, GhostBatchNorm2d, GhostBatchNorm3d
from bnrecal.norms.kinds import NORMS
from bnrecal.norms.per_image import GroupNorm, InstanceNorm, LayerNorm
from bnrecal.norms.renorm import BatchRenorm, BatchRenorm1d, BatchRenorm2d, BatchRenorm3d

__all__ = [
    "NORMS",
    "BatchRenorm",
    "BatchRenorm1d",
    "BatchRenorm2d",
    "BatchRenorm3d",
    "Conversion",
    "CrossIterationBatchNorm2d",
    "EvalNorm",
    "EvalNorm1d",
    "EvalNorm2d",
    "EvalNorm3d",
    "FrozenBatchNorm",
    "GhostBatchNorm",
    "GhostBatchNorm1d",
    "GhostBatchNorm2d",
    "GhostBatchNorm3d",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "conversion_of",
    "convert",
]
