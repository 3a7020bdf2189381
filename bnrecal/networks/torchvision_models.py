"""torchvision's classifiers and detectors by name."""

import difflib
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from bnrecal.errors import BnrecalError
from bnrecal.metrics.boxes import Detections
from bnrecal.networks.built import BuiltNetworks, use_instead
from bnrecal.networks.network import Convert, Network, Purpose
from bnrecal.networks.predictions import class_indices


def known_names(metric: str) -> list[str]:
    """The models that can be built for this metric."""
    found: list[str] = models.list_models(module=models.detection if metric == "map50" else models)
    return found


class TorchvisionModels(BuiltNetworks):
    """One architecture: the model of that name with as many outputs as the task has classes."""

    def __init__(
        self, name: str, weights: Path | None, task: Purpose, convert: Convert | None = None
    ) -> None:
        super().__init__(f"torchvision:{name}", weights, task, convert)
        self.names = (name,)
        known = known_names(task.metric)
        if name not in known:
            near = difflib.get_close_matches(name, known, 5) or known[:5]
            kind, other = ("detector", "classifier") if task.metric == "map50" else ("classifier", "detector")
            if name in known_names("top1" if task.metric == "map50" else "map50"):
                raise BnrecalError(f"--model: {self.spec} is a {other}; {use_instead(task)}")
            raise BnrecalError(f"--model: torchvision has no {kind} {name!r}; valid: {', '.join(near)}, ...")

    def make(self, arch: str) -> Network:
        n_classes = len(self.task.classes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of initialisations that will change one day
            if self.task.metric == "top1":
                return Network(models.get_model(arch, weights=None, num_classes=n_classes), class_indices)
            module = models.get_model(arch, weights=None, weights_backbone=None, num_classes=n_classes + 1)
        return Network(_for_size(module, self.task.input_shape), flat_detections, detector_forward)


def preprocessing(name: str, metric: str) -> dict[str, Any]:
    """What the model's published weights were evaluated with, as fields of `Inputs`.

    Detectors normalise and resize by themselves: their input is pixels / 255.
    """
    if metric == "map50":
        return {"mean": (0.0,), "std": (1.0,), "channels": 3}
    try:
        presets = models.get_model_weights(name).DEFAULT.transforms()
    except (ValueError, AttributeError) as error:
        raise BnrecalError(f"--preprocess: torchvision publishes no transforms for {name!r}") from error
    sides = tuple(getattr(presets, "crop_size", ()))
    if len(sides) != 1:
        raise BnrecalError(f"--preprocess: {name!r} of torchvision is no classifier of images")
    return {
        "image_size": sides * 2,
        "resize": presets.resize_size[0],
        "fit": "crop",
        "interpolation": presets.interpolation.value,
        "channels": 3,
        "mean": tuple(presets.mean),
        "std": tuple(presets.std),
    }


def _for_size(module: nn.Module, input_shape: tuple[int, int, int]) -> nn.Module:
    """The detector with its own resizing set to the size images come in; SSD keeps its fixed one."""
    transform = getattr(module, "transform", None)
    if transform is not None and getattr(transform, "fixed_size", None) is None:
        sides = input_shape[1:]
        transform.min_size, transform.max_size = (min(sides),), max(sides)
    return module


def detector_forward(model: nn.Module, images: Tensor) -> list[dict[str, Tensor]]:
    """Detectors take a list of images, and give a dict of boxes, labels and scores for each."""
    found: list[dict[str, Tensor]] = model(list(images.unbind(0)))
    return found


def flat_detections(outputs: list[dict[str, Tensor]]) -> Detections:
    """torchvision's dicts as flat arrays; its label 0 is the background."""
    image = torch.cat([torch.full_like(found["labels"], k) for k, found in enumerate(outputs)])
    boxes = torch.cat([found["boxes"] for found in outputs]).double()
    boxes[:, 2:] -= boxes[:, :2]  # x1 y1 x2 y2 -> x y w h
    labels = torch.cat([found["labels"] for found in outputs]) - 1
    scores = torch.cat([found["scores"] for found in outputs]).double()
    return Detections(*(part.cpu().numpy() for part in (image, boxes, labels, scores)))
