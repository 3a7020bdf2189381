"""`bnrecal doctor` on class folders looks at evaluation images of all classes, not the first folder's."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from bnrecal import tasks
from bnrecal.data.normalisations import GREY
from bnrecal.doctor.checkup import drawn
from bnrecal.study.study import Study
from bnrecal.tasks.classification import Classification
from tests.doctor.trained import N_TRAIN, garments, normalised, trained
from tests.measure.test_preparation_note import COMMAND, folders

__all__ = ["folders"]


def test_folders_by_class_are_no_other_domain(folders: None, bnrecal: Callable[..., Any]) -> None:
    """A sound network: nothing is wrong; all classes are among the images drawn, few among the first."""
    model = trained(*GREY)
    save_file(model.state_dict(), "w.safetensors")
    ran = bnrecal("doctor", *COMMAND, "--samples", 128, "--json")
    found = {finding["check"]: finding for finding in json.loads(ran.out)["findings"]}
    assert found["domain"]["level"] == "fine", found["domain"]
    assert ran.code == 0, ran.err

    task = tasks.of(Study(task="imagefolder", calibration="train", evaluation="val", image_size=(28, 28)))
    assert isinstance(task, Classification)
    labels = task.evaluation_labels
    assert len(set(labels[drawn(task, 128)].tolist())) == 10
    assert len(set(labels[:128].tolist())) < 6  # what the first ones would be


def test_the_metric_is_near_that_of_all(folders: None, bnrecal: Callable[..., Any]) -> None:
    """Of a third of the evaluation images: within the noise of the whole set's accuracy."""
    save_file(trained(*GREY).state_dict(), "w.safetensors")
    ran = bnrecal("doctor", *COMMAND, "--samples", 128, "--json")
    found = {finding["check"]: finding for finding in json.loads(ran.out)["findings"]}
    metric = float(found["train-gap"]["evidence"].split()[1])
    images, truth = (part[N_TRAIN + 128 :] for part in garments())
    with torch.no_grad():
        right = trained(*GREY)(normalised(images, *GREY)).argmax(1) == truth
    assert metric == pytest.approx(float(right.double().mean()), abs=0.1)
