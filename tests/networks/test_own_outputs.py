"""What a user's own network may give and print, and how dict batches reach a model."""

import json
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import bnrecal
from bnrecal import BnrecalError
from bnrecal.networks.predictions import joined_outputs
from bnrecal.recalibration.batches import call
from tests.own_images import folder_options, write_class_folders

SOURCE = """
import torch
from torch import nn

print("imported")

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, x):
        features = self.norm(self.conv(x)).mean((2, 3))
        return self.head(features), {"features": features, "loss": features.mean()}

class Nets:
    archs = ("one",)

    def build(self, arch):
        print("built")
        return Net()

    def predict(self, output):
        logits, rest = output
        assert len(rest["features"]) == len(logits)
        print("predicted")
        return logits.argmax(1).cpu().numpy()

def factory():
    print("made")
    return Nets()
"""


@pytest.mark.parametrize("command", ["sweep", "recalibrate", "doctor"])
def test_tuples_reach_predict_and_prints_go_to_stderr(
    bnrecal: Callable[..., Any], tmp_path: Path, command: str
) -> None:
    """A tuple with a dict in it, joined part by part; stdout is JSON and nothing else."""
    write_class_folders(tmp_path / "images")
    (tmp_path / "speaking.py").write_text(SOURCE)
    sys.modules.pop("speaking", None)
    sizes = ("--bs", 8, "--samples", 40)
    options = (*folder_options(tmp_path / "images"), "--model", "speaking:factory", *sizes)
    more = {"sweep": (), "recalibrate": ("-o", "w.safetensors", "--json"), "doctor": ("--json",)}[command]
    ran = bnrecal(command, *options, *more)
    assert ran.code in ((0, 3) if command != "sweep" else (0,)), ran.err
    assert "made" in ran.err
    assert not set(ran.out.split()) & {"made", "built", "predicted", "imported"}
    if command != "sweep":
        json.loads(ran.out)
    sys.path.remove(str(tmp_path))


class Pair(NamedTuple):
    logits: Any
    rest: Any


def test_outputs_are_joined_part_by_part() -> None:
    """Tensors, lists, tuples, named tuples and dicts keep their form; a loss is the first batch's."""
    a, b = torch.zeros(2, 3), torch.ones(1, 3)
    first = Pair(a, {"boxes": [1, 2], "loss": torch.tensor(5.0)})
    pair = joined_outputs([first, Pair(b, {"boxes": [3], "loss": torch.tensor(6.0)})])
    assert isinstance(pair, Pair)
    assert torch.equal(pair.logits, torch.cat([a, b]))
    assert (pair.rest["boxes"], float(pair.rest["loss"])) == ([1, 2, 3], 5.0)
    assert joined_outputs([[1], [2, 3]]) == [1, 2, 3]
    assert torch.equal(joined_outputs([(a, None), (b, None)])[0], torch.cat([a, b]))
    ordered = joined_outputs([OrderedDict(x=a), OrderedDict(x=b)])
    assert torch.equal(ordered["x"], torch.cat([a, b]))


COMING_AND_GOING = [(torch.zeros(1),), (torch.zeros(1), torch.zeros(1))]


@pytest.mark.parametrize("outputs", [[object()], COMING_AND_GOING, ["x"]])
def test_other_outputs_are_refused(outputs: list[Any]) -> None:
    """One line that names the type and what is needed."""
    with pytest.raises(
        BnrecalError, match=f"gives a {type(outputs[0]).__name__} for a batch; needs a tensor"
    ):
        joined_outputs(outputs)


class Keyed(nn.Module):
    """Takes its images by the name Hugging Face's models have."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, pixel_values: Tensor, mask: Tensor | None = None) -> Tensor:
        y: Tensor = self.norm(pixel_values)
        return y.mean((2, 3))


class Whole(nn.Module):
    """Takes the dict as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        y: Tensor = self.norm(batch["pixel_values"])
        return y.mean((2, 3))


IMAGES = torch.randn(32, 3, 4, 4, generator=torch.Generator().manual_seed(0))
DICTS = [{"pixel_values": x, "labels": torch.zeros(len(x))} for x in IMAGES.split(8)]


@pytest.mark.parametrize("make", [Keyed, Whole, lambda: AveragedModel(Keyed())])
def test_dict_batches(make: Callable[[], nn.Module]) -> None:
    """As keywords where forward has such parameters, without labels it does not take; else as they are."""
    model = make()
    report = bnrecal.recalibrate(model, DICTS)
    assert report.n_samples == 32
    (norm,) = (m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    assert torch.allclose(norm.running_mean, IMAGES.mean((0, 2, 3)), atol=1e-6)
    assert bnrecal.diagnose(model.eval(), DICTS)["runs"].level == "fine"


class FromUser(dict[str, Any]):
    """Any mapping will do."""


def test_other_mappings_and_other_names() -> None:
    """A key that no parameter has: one line with keys, parameters and `forward=`."""
    assert call(Keyed(), FromUser(pixel_values=IMAGES)).shape == (32, 3)
    batches = [{"image": x, "label": 0} for x in IMAGES.split(8)]
    message = (
        r"keys image, label, and Conv2d's forward takes input; give forward=, such as .*batch\['image'\]"
    )
    with pytest.raises(BnrecalError, match=message):
        call(nn.Conv2d(3, 3, 1), batches[0])
    found = bnrecal.diagnose(nn.Sequential(nn.Conv2d(3, 3, 1)), batches)["runs"]
    assert found.level == "wrong"
    assert "give forward=" in found.evidence


INSTEAD = "is a classifier; task garments is detection: give --task imagefolder"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("torchvision:resnet18", INSTEAD),
        ("timm:resnet18", INSTEAD),
        ("torchvision:resnet19", "has no detector 'resnet19'"),
    ],
)
def test_a_classifier_names_its_task(bnrecal: Callable[..., Any], model: str, message: str) -> None:
    """Instead of a list of detectors."""
    ran = bnrecal("recalibrate", "--model", model, "-o", "w.safetensors")
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
