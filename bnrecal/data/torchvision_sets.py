"""Fashion-MNIST and CIFAR-10 from a local torchvision root; nothing is fetched."""

from pathlib import Path
from typing import Any

import numpy as np

from bnrecal.data.image_source import Arrays
from bnrecal.data.labelled import LabelledImages
from bnrecal.errors import BnrecalError

# task -> (torchvision's class, channels, side, what has to be there)
SETS: dict[str, tuple[str, int, int, str]] = {
    "fashion-mnist": ("FashionMNIST", 1, 28, "FashionMNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte"),
    "cifar10": ("CIFAR10", 3, 32, "cifar-10-batches-py/"),
}


def read_torchvision_set(task: str, root: Path, train: bool) -> LabelledImages:
    """The training or the test split. Raises BnrecalError if the files are not there or damaged."""
    from torchvision import datasets

    name, _, _, files = SETS[task]
    try:
        found: Any = getattr(datasets, name)(str(root), train=train, download=False)
    except Exception as error:  # torchvision's readers raise what they like on damaged files
        raise BnrecalError(
            f"--data: {root}: no whole {name} ({' '.join(str(error).split())[:80]}); needs {root}/{files}"
        ) from None
    pixels = np.asarray(found.data, np.uint8)
    split = "training" if train else "test"
    labels = np.asarray(found.targets, np.int64)
    if len(labels) != len(pixels) or not ((labels >= 0) & (labels < len(found.classes))).all():
        raise BnrecalError(
            f"--data: {root}: {name}: {len(pixels)} {split} images and {len(labels)} labels up to "
            f"{labels.max(initial=0)}; needs a label from 0 to {len(found.classes) - 1} for each image"
        )
    return LabelledImages(Arrays(pixels, f"{name} {split} images"), labels, tuple(found.classes))
