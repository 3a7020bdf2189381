"""What `recalibrate` gives back."""

from dataclasses import dataclass, field

from bnrecal.recalibration.shift import Pair, Shift, shift_of, worst_first
from bnrecal.recalibration.shown import alone, as_html, as_text
from bnrecal.recalibration.statistics import Statistics


@dataclass(frozen=True, repr=False, eq=False)
class Recalibration:
    """What a recalibration did. Counts and seconds are this process's own.

    Its repr fits a screen: what was read, the layers that moved most, and what was left alone. A notebook
    shows a row for every layer.

    >>> import bnrecal, torch
    >>> batches = [torch.ones(4, 1, 2, 2), torch.ones(2, 1, 2, 2)]
    >>> report = bnrecal.recalibrate(torch.nn.BatchNorm2d(1), batches)
    >>> report.n_samples, report.n_batches, report.n_passes
    (6, 2, 1)
    >>> report.shifts[0].mean  # in standard deviations of the old statistics, mean 0 and variance 1
    0.9999950000374997
    """

    n_samples: int  # images read, counted once however many passes `exact` made over them
    n_batches: int
    n_passes: int  # over the images: 1, or more for `exact`
    seconds: float
    layers: tuple[str, ...]  # re-estimated
    left_alone: dict[str, str]  # other normalisation layers, and why each kept what it had
    statistics: Statistics  # what now stands in the layers' buffers
    snapshots: dict[int, Statistics] = field(default_factory=dict)  # by number of images
    before: dict[str, tuple[Pair, float]] = field(default_factory=dict)  # what each layer had, and its eps

    @property
    def images_per_s(self) -> float:
        return self.n_samples * self.n_passes / self.seconds if self.seconds else 0.0

    @property
    def shifts(self) -> list[Shift]:
        """How far each re-estimated layer moved, the largest first."""
        new = self.statistics.by_name()
        return worst_first(shift_of(name, old, new[name], eps) for name, (old, eps) in self.before.items())

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)

    def __str__(self) -> str:
        """What was done, and every layer that was left alone with the reason, one reason a line."""
        images = f"{self.n_samples:,} images" + (f", read {self.n_passes} times" if self.n_passes > 1 else "")
        head = f"{len(self.layers)} layers re-estimated from {images}, {self.seconds:.1f} s"
        return "\n".join([head, *alone(self.left_alone)])
