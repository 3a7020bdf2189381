"""`bnrecal doctor` on class folders looks at evaluation images of all classes, not the first folder's."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import bnrecal as library
from bnrecal.data.normalisations import GREY
from tests.doctor.trained import N_TRAIN, garments, normalised, trained
from tests.measure.test_preparation_note import COMMAND, folders

__all__ = ["folders"]


def test_folders_by_class_are_no_other_domain(folders: None, bnrecal: Callable[..., Any]) -> None:
    """A sound network: nothing is wrong, though the first 128 images by class do see other values."""
    model = trained(*GREY)
    save_file(model.state_dict(), "w.safetensors")
    ran = bnrecal("doctor", *COMMAND, "--samples", 128, "--json")
    found = {finding["check"]: finding for finding in json.loads(ran.out)["findings"]}
    assert found["domain"]["level"] == "fine", found["domain"]
    assert ran.code == 0, ran.err

    images, truth = (part[N_TRAIN:] for part in garments())
    x = normalised(images, *GREY)
    by_class = x[128:][truth[128:].argsort(stable=True)][:128]
    sorted_ones = library.diagnose(model, list(x[:128].split(32)), evaluation=list(by_class.split(32)))
    assert sorted_ones["domain"].level == "wrong"


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
