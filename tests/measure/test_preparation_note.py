"""`bnrecal recalibrate` names another scaling of the images unless the metric falls by it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from bnrecal.data.normalisations import GREY, PLAIN
from tests.doctor.trained import N_TRAIN, garments, normalised, trained

MODULE = """
from torch import nn

def network(n_classes):
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, n_classes)),
    )
"""
COMMAND = (
    *("--task", "imagefolder", "--calibration", "train", "--evaluation", "val", "--image-size", 28),
    *("--channels", 1, "--model", "network_of_garments:network", "--weights", "w.safetensors"),
)


@pytest.fixture
def folders(tmp_path: Path) -> None:
    """128 images to calibrate with and 384 to evaluate on, of those that were not trained on."""
    images, truth = (part[N_TRAIN:] for part in garments())
    for k, (image, label) in enumerate(zip(images, truth, strict=True)):
        folder = tmp_path / ("train" if k < 128 else "val") / str(int(label))
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(folder / f"{k:03}.png")
    (tmp_path / "network_of_garments.py").write_text(MODULE)


def fitted(model: nn.Sequential, images: Tensor, truth: Tensor) -> nn.Sequential:
    """The same with a head fitted, by least squares, on these images and the statistics it holds."""
    with torch.no_grad():
        features = model[:-1](images)
        ones = torch.cat([features, torch.ones(len(features), 1)], 1)
        wanted = nn.functional.one_hot(truth, 10).float()
        solution = torch.linalg.solve(ones.T @ ones + 1e-2 * torch.eye(ones.shape[1]), ones.T @ wanted)
        head = model[-1]
        assert isinstance(head, nn.Linear)
        head.weight.copy_(solution[:-1].T)
        head.bias.copy_(solution[-1])
    return model


def note_of(bnrecal: Callable[..., Any]) -> tuple[str | None, str]:
    """What recalibrate says of the preparation, in JSON and on stderr."""
    ran = bnrecal(
        *("recalibrate", *COMMAND, "-o", "n.safetensors", "--samples", 128, "--even-if-worse", "--json")
    )
    assert ran.code == 0, ran.err
    said = [line for line in ran.err.splitlines() if "first BatchNorms' statistics" in line]
    return json.loads(ran.out)["preparation"], "".join(said)


def test_a_network_of_raw_pixels_is_told_its_options(folders: None, bnrecal: Callable[..., Any]) -> None:
    """Trained on raw pixels, given the default: named with the metric of both, and what to give."""
    save_file(trained(*PLAIN).state_dict(), "w.safetensors")
    note, said = note_of(bnrecal)
    assert note is not None
    assert note.endswith("--mean 0 --std 1")
    assert note in said
    shown = bnrecal("recalibrate", *COMMAND, "-o", "m.safetensors", "--samples", 128).out.splitlines()
    assert shown[0] == "First prepare the images with mean 0, std 1: --mean 0 --std 1"
    assert shown[1] == "With the images as they are:"
    assert shown[2].startswith(("Better: ", "WORSE: ", "Not shown to help: "))
    now, then = (float(note.split(part)[0].split()[-1]) for part in (" as they are", " then;"))
    assert then > now + 0.2


def test_a_head_fitted_on_images_as_they_are_is_left_in_peace(
    folders: None, bnrecal: Callable[..., Any]
) -> None:
    """The statistics would fit raw pixels far better, but the head was fitted on these: no note."""
    images, truth = (part[:N_TRAIN] for part in garments())
    model = trained(*PLAIN)
    assert isinstance(model, nn.Sequential)
    save_file(fitted(model, normalised(images, *GREY), truth).state_dict(), "w.safetensors")
    assert note_of(bnrecal) == (None, "")


def advised(bnrecal: Callable[..., Any]) -> tuple[str, str | None]:
    """What advise says, as text and in JSON."""
    options = ("--estimator", "pooled", "--bs", 32)
    ran = bnrecal("advise", *COMMAND, *options)
    assert ran.code == 0, ran.err
    assert max(map(len, ran.out.splitlines())) <= 80
    facts = json.loads(bnrecal("advise", *COMMAND, *options, "--json").out)
    return ran.out, facts["preparation"]


def test_advise_says_first_how_to_prepare_the_images(
    folders: None, bnrecal: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scaled wrongly: the options come before the setting. Scaled as in training: not a word."""
    monkeypatch.delenv("BNRECAL_BASELINE")  # the network as it stands says it
    save_file(trained(*PLAIN).state_dict(), "w.safetensors")
    text, sentence = advised(bnrecal)
    assert sentence is not None
    assert "--mean 0 --std 1. The reason: the first BatchNorms' statistics are" in sentence
    assert text.index("First prepare the images") < text.index("With the images as they are:")
    save_file(trained(*GREY).state_dict(), "w.safetensors")
    text, sentence = advised(bnrecal)
    assert sentence is None
    assert "prepare" not in text
