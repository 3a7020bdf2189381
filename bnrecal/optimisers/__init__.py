"""Optimisers for large batches: layer-wise adaptive rates after You, Gitman and Ginsburg (2017)."""

from bnrecal.optimisers.adapted import Adapt
from bnrecal.optimisers.larc import LARC
from bnrecal.optimisers.lars import LARS

__all__ = ["LARC", "LARS", "Adapt"]
