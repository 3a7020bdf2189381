"""What helps where a normalisation sees few images: what one study found, and what the metric says here."""

import csv
from dataclasses import dataclass
from importlib.resources import files

from bnrecal.doctor.patient import Patient
from bnrecal.doctor.weighing import gain

FEW_IMAGES = 4  # up to here BatchNorm lost by small batches in the study and in the literature
STUDY = (
    "experiments/small_batches.toml: a residual network of 9 BatchNorms trained 2 epochs on CIFAR-10; other "
    "networks may differ"
)
# a training step as a multiple of BatchNorm's: experiments/LOG.md, ResNet-14, batch 32, channels-last
_STEP = {"gn": 1.25, "ln": 1.01, "in": 1.38, "brn": 1.15, "cbn": 1.98, "naive-cbn": 1.36}
_WITHOUT_TRAINING = {"bn re-estimated": "recalibration", "evalnorm": "norms.convert(model, 'evalnorm')"}


@dataclass(frozen=True)
class Helped:
    """Points of top-1 against BatchNorm as it stood at the same norm batch, with a 95 % interval."""

    norm: str
    norm_batch: int
    points: float
    low: float
    high: float
    n_trainings: int

    def __str__(self) -> str:
        if self.norm in _WITHOUT_TRAINING:
            paid = f"{_WITHOUT_TRAINING[self.norm]}, no training"
        else:
            paid = f"trained so from the start, {_STEP[self.norm]:g} times a step"
        return f"{self.norm} {self.points:+.1f} points ({self.low:+.1f} to {self.high:+.1f}; {paid})"


def study_rows() -> list[Helped]:
    """What the study found (experiments/small_batches_doctor.py)."""
    text = (files("bnrecal.doctor") / "small_batches.csv").read_text("utf-8")
    return [
        Helped(norm, int(size), float(points), float(low), float(high), int(n))
        for norm, size, points, low, high, n in map(dict.values, csv.DictReader(text.splitlines()))
    ]


def what_helped(n_images: int, rows: list[Helped]) -> str:
    """Who beat BatchNorm beyond noise in batches of so many images, or of the nearest that was tried."""
    size = min({row.norm_batch for row in rows}, key=lambda size: (abs(size - n_images), size))
    here = [row for row in rows if row.norm_batch == size]
    better = sorted((row for row in here if row.low > 0), key=lambda row: -row.points)
    fewest = min(row.n_trainings for row in here)
    which = f"in batches of {size} ({STUDY}; {fewest} training{'s' * (fewest != 1)} each)"
    if better:
        return f"{which} these beat BatchNorm beyond noise: {', '.join(map(str, better))}"
    tried = ", ".join(f"{row.norm} {row.points:+.1f}" for row in sorted(here, key=lambda row: -row.points))
    return f"{which} nothing beat BatchNorm beyond noise (points of top-1: {tried})"


def given_back(patient: Patient) -> str:
    """What recalibration alone does to the metric here, measured on the patient's images."""
    seen = gain(patient)
    if seen is None:
        return "a metric (evaluate=) would say how much recalibration alone gives back"
    said = {
        "repairs": f"recalibration alone gives back {seen.fresh - seen.stored:+.4f}",
        "harms": "recalibration alone does harm",
        "neither": "recalibration alone changes nothing beyond chance",
    }[seen.kind]
    return f"{said}: {seen}"


def images_together(patient: Patient) -> int:
    """The fewest images that one normalisation sees: of the batches given, or of a layer's `norm_batch`."""
    own = [n for norm in patient.norms.values() if isinstance(n := getattr(norm, "norm_batch", None), int)]
    return min([patient.batch_size, *own])
