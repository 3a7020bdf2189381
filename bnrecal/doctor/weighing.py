"""What the metric says of re-estimating, and the remedy that follows from it.

Statistics that do not fit these images are no fault by themselves: a head fitted on them needs them. So
"re-estimate them" is not said where the metric loses by it, and what the metric says stands beside it.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bnrecal.doctor.chance import differ
from bnrecal.doctor.finding import RECALIBRATE, Finding, answer
from bnrecal.doctor.patient import Patient
from bnrecal.errors import BnrecalError

PREPARE_FIRST = "prepare the images as in training first (see preparation), then look again"
CLASSES_FIRST = "look first whether the classes are the network's, in the order of its outputs (--classes)"
UNASKED = f"{RECALIBRATE}; then compare the metric before and after (evaluate= lets diagnose do so)"


def thaw(patient: Patient) -> str:
    """How frozen layers are re-estimated; names hold in either mode."""
    none = 'frozen="none" (--frozen none)'
    return f"{none}, or model.train() before recalibrate" if isinstance(patient.frozen_rule, str) else none


@dataclass(frozen=True)
class Gain:
    """The metric of the same images with the stored statistics and with re-estimated ones."""

    stored: float
    fresh: float
    n_images: int
    which: str  # "calibration" or "evaluation"

    @property
    def kind(self) -> Literal["repairs", "harms", "neither"]:
        """What re-estimating does, where it is more than chance explains."""
        if not differ(self.stored, self.fresh, self.n_images):
            return "neither"
        worse = math.isnan(self.fresh) or self.fresh < self.stored  # a number is better than none
        return "harms" if worse else "repairs"

    def __str__(self) -> str:
        return (
            f"metric {self.stored:.4f} with the stored statistics, {self.fresh:.4f} with re-estimated ones "
            f"({self.n_images:,} {self.which} images)"
        )


def gain(patient: Patient, of_all: bool = False) -> Gain | None:
    """What `recalibrate` would do to the metric, or with `of_all` re-estimating frozen layers too.

    None where there is no metric, where outputs are random, and where it cannot be had.
    """
    if not patient.has_metric:
        return None
    try:
        if patient.is_random:
            return None
        fresh = patient.metric_all_fresh if of_all else patient.metric_recalibrated
        return Gain(patient.metric_stored, fresh, patient.n_in_whole_batches, patient.scored.which)
    except BnrecalError:
        return None


def weighed(patient: Patient, what: str, layers: Iterable[str], of_all: bool = False) -> Finding:
    """The finding that these layers do not hold what they should, with the remedy it deserves.

    It is no fault where the metric suffers from re-estimating (`of_all`: frozen layers too) by more than
    chance. Where the metric cannot tell, it is one, and the remedy says that. Where some of the layers are
    frozen, plain `recalibrate` would leave these alone: remedy and metric are those of re-estimating all.
    """
    layers = tuple(layers)
    of_all = of_all or not set(layers).isdisjoint(patient.frozen)
    seen = gain(patient, of_all)
    remedy = f"re-estimate them too: {thaw(patient)}" if of_all else RECALIBRATE
    if seen is None or seen.kind != "harms":
        better = patient.better_prepared
        if better is not None:
            return answer("wrong", what if seen is None else f"{what}; {seen}", PREPARE_FIRST, layers)
    if seen is None:
        unmeant = f"{remedy}, unless they are meant to stay as they are"
        return answer("wrong", what, unmeant if of_all else UNASKED, layers)
    what = f"{what}; {seen}"
    if seen.kind == "harms":
        return answer("note", what, "leave them: the network scores worse with re-estimated ones", layers)
    if seen.stored == seen.fresh == 0:
        return answer("wrong", what, f"{CLASSES_FIRST}; the metric is 0 either way", layers)
    if seen.kind == "neither":
        remedy += "; look at the metric of more images, these do not tell the two apart"
    return answer("wrong", what, remedy, layers)
