"""Images scaled otherwise than in training are found by the network's first statistics, and only those."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bnrecal
from bnrecal.data.normalisations import BYTES, GREY, HALF, IMAGENET, PLAIN, MeanStd
from bnrecal.measure.preparation import OWN, fit_of, guessed
from bnrecal.recalibration.batches import call
from bnrecal.recalibration.input_fit import misfit
from tests.doctor.trained import N_TRAIN, garments, normalised, trained

OWN_GREY = ((0.286,), (0.353,))  # of garments on black
RAW = {"plain": PLAIN, "half": HALF, "bytes": BYTES}


def scaled(by: MeanStd, channels: int, n: int = 128) -> list[Tensor]:
    """Held-out images in batches."""
    return list(normalised(garments(channels)[0][N_TRAIN : N_TRAIN + n], *by).split(32))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("was", ["plain", "half", "bytes", "imagenet"])
def test_the_right_one_is_named_whichever_was_given(channels: int, was: str) -> None:
    """Trained on one, given each other: where the images fit badly, it is named with its options.

    With the right one nothing is claimed; what is claimed is never another than the right one.
    """
    usual = {**RAW, "imagenet": IMAGENET if channels == 3 else GREY}
    model = trained(*usual[was], channels)
    for name, given in usual.items():
        found = fit_of(model, scaled(given, channels), call, given)
        if name == was:
            assert found.distance < 0.02
            assert found.better is None
        else:
            assert found.distance > 0.1, (was, name)
            assert found.better is not None, (was, name, found)
            assert found.better.value == usual[was], (was, name, found)
            assert found.better.distance < 0.03


def test_a_network_trained_on_its_images_own_is_recognised() -> None:
    """The candidate is taken from the images, and told by its figures."""
    found = fit_of(trained(*OWN_GREY), scaled(PLAIN, 1), call, PLAIN)
    assert found.better is not None
    assert found.better.name == OWN
    assert found.better.value[0][0] == pytest.approx(0.286, abs=0.03)
    assert found.better.value[1][0] == pytest.approx(0.353, abs=0.03)


def test_never_updated_statistics_claim_nothing() -> None:
    """Mean 0 and variance 1 are no trace of any images."""
    model = copy.deepcopy(trained())
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    for given in RAW.values():
        found = fit_of(model, scaled(given, 1), call, given)
        assert math.isnan(found.distance)
        assert found.better is None
    assert bnrecal.diagnose(model, scaled(PLAIN, 1))["preparation"].level == "skipped"


def test_statistics_of_nothing_claim_nothing() -> None:
    """Where every mean is three deviations off, no scaling of the images brings them near."""
    model = trained()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean += 3 * module.running_var.sqrt()
            module.running_var *= 9
    found = fit_of(model, scaled(PLAIN, 1), call, PLAIN)
    assert found.distance > 0.1
    assert found.better is None


def test_images_of_another_kind_are_no_other_scaling() -> None:
    """Dimmed images of half the contrast: the images' own mean and std are nearer, and not claimed."""
    dim = (garments(1)[0][N_TRAIN : N_TRAIN + 128].float() * 0.5 + 20).byte()
    found = fit_of(trained(*GREY), list(normalised(dim, *GREY).split(32)), call, GREY)
    assert found.better is None or found.better.name != OWN or found.better.distance < 0.01


def test_distance_against_the_formula() -> None:
    """One BatchNorm that sees the images themselves: the Bhattacharyya distance of one channel, by hand."""
    model = nn.Sequential(nn.BatchNorm2d(1, eps=0.0)).eval()
    model[0].running_mean.fill_(1.0)
    model[0].running_var.fill_(4.0)
    x = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double() * 3 + 2
    m, v = float(x.mean()), float(x.var(correction=0))
    expected = (m - 1) ** 2 / (4 * (v + 4)) + math.log((v + 4) / (2 * math.sqrt(v * 4))) / 2
    assert misfit(model.double(), list(x.split(16)), call) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_ranges_say_how_images_were_scaled(channels: int) -> None:
    """Raw, bytes, -1 to 1 and ImageNet's by their ends; what none explains is not guessed."""
    pixels = garments(channels)[0][:64].clone()
    pixels[0, :, 0, 0], pixels[0, :, 0, 1] = 0, 255
    for given in (PLAIN, BYTES, HALF, IMAGENET if channels == 3 else GREY):
        found = guessed(normalised(pixels, *given))
        assert found is not None
        assert torch.allclose(normalised(pixels, *found), normalised(pixels, *given), atol=0.02 / given[1][0])
    assert guessed(torch.randn(64, channels, 8, 8) * 3) is None


def accuracy(truth: Tensor) -> Any:
    def evaluate(model: nn.Module, batches: Any) -> float:
        found = torch.cat([model(batch).argmax(1) for batch in batches])
        return float((found == truth[: len(found)]).double().mean())

    return evaluate


def test_the_doctor_names_the_options_and_does_not_say_re_estimate() -> None:
    """Trained on raw pixels, given ImageNet's: the cause is named, with the metric of both."""
    held_out = scaled(GREY, 1, 512)
    truth = garments(1)[1][N_TRAIN:]
    found = bnrecal.diagnose(trained(*PLAIN), held_out, evaluation=held_out, evaluate=accuracy(truth))
    seen = found["preparation"]
    assert seen.level == "wrong", str(found)
    assert seen.remedy.endswith("--mean 0 --std 1")
    metric = [
        float(word.rstrip(";,")) for word in seen.evidence.split("metric ")[1].split() if word[0] == "0"
    ]
    assert metric[1] > metric[0] + 0.2
    assert found["shift"].remedy.startswith("prepare the images as in training first")
    assert not any(finding.remedy.startswith("re-estimate") for finding in found.findings)


def test_a_known_normalisation_is_taken_and_an_unknown_one_is_said() -> None:
    """Images whose range says nothing: skipped with the way to tell, found when told."""
    strange: MeanStd = ((0.2,), (0.13,))
    batches = scaled(strange, 1)
    found = bnrecal.diagnose(trained(*PLAIN), batches)["preparation"]
    assert found.level == "skipped"
    assert "normalisation=(mean, std) does" in found.evidence
    found = bnrecal.diagnose(trained(*PLAIN), batches, normalisation=strange)["preparation"]
    assert found.remedy.endswith("--mean 0 --std 1")
