"""A task in memory and a network for it: two classes that differ by brightness."""

from pathlib import Path
from tempfile import mkdtemp

import torch
from torch import nn

from bnrecal import tasks
from bnrecal.study.inputs import make_inputs
from bnrecal.tasks.classification import Classification
from tests.own_images import write_class_folders

_made: list[Classification] = []


def bright_and_dark() -> Classification:
    """100 images to train on, 3 x 12 x 12; the folders are written once a process."""
    if not _made:
        root = Path(mkdtemp())
        write_class_folders(root, n=50, size=12)
        places = {"calibration": str(root / "train"), "evaluation": str(root / "val")}
        task = tasks.of(make_inputs({"task": "imagefolder", "image_size": 12, **places}))
        assert isinstance(task, Classification)
        _made.append(task)
    return _made[0]


def small_network(seed: int) -> nn.Sequential:
    """Convolutions, BatchNorm and dropout."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, 2, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 2),
        )
