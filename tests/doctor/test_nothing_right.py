"""A network whose predictions are never right: the classes are asked for, not the statistics."""

import shutil
from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from bnrecal.data.normalisations import GREY
from tests.doctor.trained import trained
from tests.measure.test_preparation_note import COMMAND, folders

__all__ = ["folders"]


def test_doctor_and_recalibrate_ask_for_the_classes(folders: None, bnrecal: Callable[..., Any]) -> None:
    """Statistics never updated, and every answer is a class that no evaluation image has.

    With the head as it was re-estimating is the remedy.
    """
    shutil.rmtree("val/0")
    model = trained(*GREY)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    save_file(model.state_dict(), "w.safetensors")
    options = (*COMMAND, "--samples", 128)
    assert "-> re-estimate them: bnrecal recalibrate" in bnrecal("doctor", *options).out
    assert bnrecal("recalibrate", *options, "-o", "n.safetensors").out.startswith("Better: +")

    head = model[-1]
    with torch.no_grad():
        head.bias[0] += 1e3
    save_file(model.state_dict(), "w.safetensors")
    ran = bnrecal("doctor", *options)
    assert ran.code == 3
    assert "look first whether the classes are the" in ran.out
    assert "re-estimate them" not in ran.out
    ran = bnrecal("recalibrate", *options, "-o", "m.safetensors")
    first = ran.out.splitlines()[0]
    assert first == "Not shown to help: the metric is 0 either way; are the classes the network's?"
