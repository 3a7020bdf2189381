"""What training minimises on each kind of task."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bnrecal.metrics.boxes import GroundTruth, Int64s
from bnrecal.networks.head import boxes_and_logits, cell_centres
from bnrecal.networks.supernet import GRID_STRIDE
from bnrecal.tasks.classification import Classification
from bnrecal.tasks.detection import Detection
from bnrecal.tasks.garments import Garments
from bnrecal.tasks.task import Task
from bnrecal.train.detection_loss import assign, detection_loss

# (raw outputs of the network, the images' places among all calibration images, sorted by id) -> loss
Objective = Callable[[Tensor, Int64s], Tensor]


def objective_of(task: Task) -> Objective:
    """Cross-entropy for classes, `detection_loss` for boxes."""
    ids = np.sort(task.order(0))
    if isinstance(task, Classification):
        labels = torch.from_numpy(task.calibration_labels[ids])
        return lambda logits, at: F.cross_entropy(logits, labels[at])
    assert isinstance(task, Garments | Detection)
    boxes, classes, n_objects = _padded(task.calibration_truth(ids))
    height, width = (-(-side // GRID_STRIDE) for side in task.input_shape[1:])
    assigned = assign(boxes, n_objects, cell_centres(height, width), GRID_STRIDE)

    def objective(raw: Tensor, at: Int64s) -> Tensor:
        return detection_loss(*boxes_and_logits(raw), boxes[at], classes[at], assigned[at])

    return objective


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
