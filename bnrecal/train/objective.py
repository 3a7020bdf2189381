"""What training minimises on each kind of task."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bnrecal.errors import BnrecalError
from bnrecal.metrics.boxes import GroundTruth
from bnrecal.networks.head import boxes_and_logits, cell_centres
from bnrecal.networks.learner import Head
from bnrecal.networks.supernet import GRID_STRIDE
from bnrecal.study.recipe import Recipe
from bnrecal.tasks.classification import Classification
from bnrecal.tasks.detection import Detection
from bnrecal.tasks.garments import Garments
from bnrecal.tasks.task import Task
from bnrecal.train.detection_loss import assign, detection_loss


class Objective(Protocol):
    """A loss over images, which are named by their places among all calibration images, sorted by id."""

    def loss(self, output: Any, at: Tensor) -> Tensor:
        """Of the network's raw output for the images `at`, a mean; a scalar."""
        ...

    def weight(self, at: Tensor) -> float:
        """How many things that mean is over: losses of parts of a batch are weighted by it."""
        ...


def objective_of(task: Task, head: Head, recipe: Recipe, device: torch.device) -> Objective:
    """Cross-entropy for classes, `detection_loss` for boxes.

    The recipe is one that fits the task. Raises BnrecalError for a network that is for another kind of task.
    """
    ids = np.sort(task.order(0))
    if isinstance(task, Classification):
        if head != "logits":
            raise BnrecalError(f"--model: a detector cannot learn task {task.name}, which is classification")
        labels = torch.from_numpy(np.asarray(task.calibration_labels)[ids]).to(device)
        return _Classes(labels, len(task.classes), recipe.label_smoothing)
    if head != "grid":
        raise BnrecalError(f"--model: only the supernet learns detection (task {task.name})")
    assert isinstance(task, Garments | Detection)
    return _boxes(task, device)


@dataclass(frozen=True)
class _Classes:
    """Cross-entropy, computed in float32."""

    labels: Tensor
    n_classes: int
    label_smoothing: float

    def loss(self, output: Any, at: Tensor) -> Tensor:
        if not isinstance(output, Tensor) or output.shape != (len(at), self.n_classes):
            kind = "x".join(map(str, output.shape)) if isinstance(output, Tensor) else type(output).__name__
            raise BnrecalError(
                f"--model: in train mode the network gives {kind} for {len(at)} images; a classifier gives "
                f"(images, classes), here {len(at)}x{self.n_classes}"
            )
        return F.cross_entropy(output.float(), self.labels[at], label_smoothing=self.label_smoothing)

    def weight(self, at: Tensor) -> float:
        return len(at)


def _boxes(task: Garments | Detection, device: torch.device) -> "_Boxes":
    boxes, classes, n_objects = _padded(task.calibration_truth(np.sort(task.order(0))))
    height, width = (-(-side // GRID_STRIDE) for side in task.input_shape[1:])
    assigned = assign(boxes, n_objects, cell_centres(height, width), GRID_STRIDE)
    return _Boxes(boxes.to(device), classes.to(device), assigned.to(device))


@dataclass(frozen=True)
class _Boxes:
    """`detection_loss`, a mean over positive cells, computed in float32."""

    boxes: Tensor
    classes: Tensor
    assigned: Tensor

    def loss(self, output: Any, at: Tensor) -> Tensor:
        found = boxes_and_logits(output.float())
        return detection_loss(*found, self.boxes[at], self.classes[at], self.assigned[at])

    def weight(self, at: Tensor) -> float:
        return max(1, int((self.assigned[at] >= 0).sum()))


def _padded(truth: GroundTruth) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (images, most objects, 4) as x1 y1 x2 y2, labels (images, most objects), counts.

    Crowds are no objects to learn.
    """
    single = np.ones(len(truth.labels), bool) if truth.crowd is None else ~truth.crowd
    image, found, label = truth.image[single], truth.boxes[single], truth.labels[single]
    n = truth.n_images
    n_objects = np.bincount(image, minlength=n)
    slot = np.arange(len(image)) - np.repeat(np.cumsum(n_objects) - n_objects, n_objects)
    most = max(1, int(n_objects.max()))
    boxes = torch.zeros(n, most, 4)
    labels = torch.zeros(n, most, dtype=torch.long)
    boxes[image, slot] = torch.from_numpy(
        np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], 1)
    ).float()
    labels[image, slot] = torch.from_numpy(label)
    return boxes, labels, torch.from_numpy(n_objects)
