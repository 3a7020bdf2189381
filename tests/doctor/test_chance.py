"""The doctor judges a change of the metric as recalibrate does, where it knows which images are right."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bnrecal.doctor.chance import Scored, differ
from bnrecal.doctor.checkup import _scored, drawn
from bnrecal.measure.prepared import change
from bnrecal.networks.network import Network
from bnrecal.networks.predictions import class_indices
from bnrecal.study.inputs import Inputs
from bnrecal.tasks import of
from tests.doctor.trained import trained
from tests.measure.test_preparation_note import folders

__all__ = ["folders"]  # a fixture


def scored(right: np.ndarray) -> Scored:
    return Scored(float(right.mean()), lambda: {"correct": right.astype(np.uint8)})


def test_a_few_images_all_one_way_are_told_apart() -> None:
    """12 of 512 images better and none worse: paired beyond noise, as fractions alone within it."""
    before = np.arange(512) % 4 > 0
    after = before | (np.arange(512) < 48)
    assert differ(scored(before), scored(after), 512)
    assert not differ(float(before.mean()), float(after.mean()), 512)


def test_images_that_change_both_ways_are_not() -> None:
    """The same gain where 150 images change their side: within noise either way."""
    before = np.arange(512) % 4 > 0
    after = before.copy()
    after[np.flatnonzero(before)[:69]] = False
    after[np.flatnonzero(~before)[:81]] = True
    assert after.mean() - before.mean() == pytest.approx(12 / 512)
    assert not differ(scored(before), scored(after), 512)


def test_the_command_scores_image_by_image(folders: None, tmp_path: Path) -> None:
    """What its evaluate gives knows the images: the interval is that of these, in their drawn order."""
    inputs = Inputs(
        task="imagefolder",
        calibration=str(tmp_path / "train"),
        evaluation=str(tmp_path / "val"),
        image_size=(28, 28),
        channels=1,
        mean=(0.0,),
        std=(1.0,),
    )
    task = of(inputs)
    places = drawn(task, 100)
    model = trained()
    images = task.to_input(torch.from_numpy(task.evaluation_images_at(places)))
    evaluate = _scored(task, Network(model, class_indices), places)
    with torch.no_grad():
        metric = evaluate(model, images.split(32))
    assert isinstance(metric, Scored)
    found = metric.evidence()["correct"]
    assert found.mean() == pytest.approx(float(metric))
    assert change({"correct": np.zeros(100, np.uint8)}, metric.evidence()) is not None
