"""BatchNorms that are left alone for their mode, as rows keep it; the rule: recalibration/frozen.py."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LeftAlone:
    """`n` of `total` BatchNorms came in eval mode, the others in train mode; the first of their names."""

    n: int
    total: int
    names: Sequence[str]

    @property
    def sentence(self) -> str:
        shown = ", ".join(name or "the model itself" for name in self.names)
        more = ", ..." if self.n > len(self.names) else ""
        return (
            f"{self.n} of {self.total} BatchNorms ({shown}{more}) came in eval mode and "
            f"{self.total - self.n} in train mode: the former count as frozen and keep their statistics in "
            "every cell. A network handed over in one mode has all re-estimated, as by recalibrate "
            "--frozen none."
        )
