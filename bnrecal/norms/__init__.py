"""Normalisations in the place of BatchNorm."""

from bnrecal.norms.conversion import Conversion, conversion_of
from bnrecal.norms.convert import convert
from bnrecal.norms.ghost import GhostBatchNorm, GhostBatchNorm1d, GhostBatchNorm2d, GhostBatchNorm3d

__all__ = [
    "Conversion",
    "GhostBatchNorm",
    "GhostBatchNorm1d",
    "GhostBatchNorm2d",
    "GhostBatchNorm3d",
    "conversion_of",
    "convert",
]
