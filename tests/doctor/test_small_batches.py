"""Batches too small for BatchNorm: what helped in the study, its cost, and what recalibration gives back."""

from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor, nn

import bnrecal
from bnrecal.doctor.small_batches import Helped, study_rows, what_helped
from bnrecal.norms import convert
from tests.doctor.patients import BATCHES, IMAGES, sane
from tests.doctor.trained import N_TRAIN, garments, normalised, trained


def accuracy(truth: Tensor) -> Callable[[nn.Module, Iterable[Tensor]], float]:
    """Top-1 over the batches, whose images come in the order of `truth`."""

    def evaluate(model: nn.Module, batches: Iterable[Tensor]) -> float:
        found = torch.cat([model(x).argmax(1) for x in batches])
        return float((found == truth[: len(found)]).float().mean())

    return evaluate


def test_a_network_that_normalises_pairs_is_told_what_recalibration_gives_back() -> None:
    """Statistics that are off cost points: the note measures what re-estimating returns; with the right ones
    it says that nothing is to be had. The metric is of the images given.
    """
    images, truth = garments()
    x, labels = normalised(images, (0.0,), (1.0,))[N_TRAIN:], truth[N_TRAIN:]
    model = trained()
    batches = list(x.split(2))
    found = bnrecal.diagnose(model, batches, evaluate=accuracy(labels))["values"]
    assert found.level == "note"
    assert found.evidence.startswith("one normalisation sees 2 images; ")
    assert "recalibration alone changes nothing beyond chance: metric 0." in found.evidence
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean += norm.running_var.sqrt()
    found = bnrecal.diagnose(model, batches, evaluate=accuracy(labels))["values"]
    assert "recalibration alone gives back +0." in found.evidence
    assert found.remedy.startswith("if it was trained so: in batches of 2 (experiments/small_batches.toml")


def test_the_norm_batch_of_a_layer_counts_and_large_batches_are_fine() -> None:
    """Batches of 32 are fine; the same where layers normalise 2 together is a note, also without a metric."""
    assert bnrecal.diagnose(sane(), BATCHES)["values"].level == "fine"
    found = bnrecal.diagnose(convert(sane(), "bn", norm_batch=2), BATCHES)["values"]
    assert found.level == "note"
    assert "one normalisation sees 2 images" in found.evidence
    assert "a metric (evaluate=) would say how much recalibration alone gives back" in found.evidence
    assert bnrecal.diagnose(sane(), IMAGES.split(5))["values"].level == "fine"


def test_what_helped_comes_with_its_cost_and_condition() -> None:
    """Those beyond noise, the best first, each with what it costs; where there are none, that is said."""
    rows = [
        Helped("gn", 2, 3.0, 1.0, 5.0, 3),
        Helped("bn re-estimated", 2, 4.0, 2.0, 6.0, 3),
        Helped("brn", 2, 2.0, -1.0, 5.0, 3),
        Helped("gn", 8, -3.0, -5.0, -1.0, 1),
    ]
    said = what_helped(2, rows)
    assert "in batches of 2 (experiments/small_batches.toml: a residual network" in said
    assert said.endswith(
        "3 trainings each) these beat BatchNorm beyond noise: "
        "bn re-estimated +4.0 points (+2.0 to +6.0; recalibration, no training), "
        "gn +3.0 points (+1.0 to +5.0; trained so from the start, 1.25 times a step)"
    )
    assert what_helped(1, rows) == said
    none = what_helped(16, rows)
    assert none.endswith("1 training each) nothing beat BatchNorm beyond noise (points of top-1: gn -3.0)")


@pytest.mark.parametrize("size", [2, 4])
def test_the_shipped_table_knows_every_norm_at_small_norm_batches(size: int) -> None:
    """Each with an interval around its figure, and a cost that can be said."""
    here = [row for row in study_rows() if row.norm_batch == size]
    assert {"bn re-estimated", "gn", "ln", "in", "brn", "cbn", "naive-cbn"} <= {row.norm for row in here}
    for row in here:
        assert row.low <= row.points <= row.high
        assert row.n_trainings >= 1
        assert row.norm in str(row)
