"""Ground truth and detections as flat arrays: the common language of networks, tasks and metrics.

Boxes are COCO's: x, y, width, height in pixels, float64. Images are named by their position
0..n_images-1 within what is scored; classes are small integers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
Float64s = NDArray[np.float64]


@dataclass(frozen=True)
class GroundTruth:
    """Objects of a set of images.

    A crowd (COCO's iscrowd) is a region of many objects: it need not be found, and a detection that
    hits nothing else but lies in it is neither right nor wrong.
    """

    n_images: int
    image: Int64s  # (objects,)
    boxes: Float64s  # (objects, 4)
    labels: Int64s  # (objects,)
    crowd: NDArray[np.bool_] | None = None  # (objects,); None: there are none


@dataclass(frozen=True)
class Detections:
    """Predicted boxes of a set of images; an image may have none."""

    image: Int64s  # (detections,)
    boxes: Float64s  # (detections, 4)
    labels: Int64s  # (detections,)
    scores: Float64s  # (detections,)

    def of_first(self, n_images: int) -> "Detections":
        """Those on images 0..n_images-1."""
        chosen = self.image < n_images
        return Detections(self.image[chosen], self.boxes[chosen], self.labels[chosen], self.scores[chosen])

    @staticmethod
    def join(parts: Sequence[tuple[int, "Detections"]]) -> "Detections":
        """Several sets as one; each part comes with the position of its first image."""
        if not parts:
            empty = np.zeros(0, np.int64)
            return Detections(empty, np.zeros((0, 4)), empty, np.zeros(0))
        return Detections(
            np.concatenate([part.image + first for first, part in parts]),
            np.concatenate([part.boxes for _, part in parts]),
            np.concatenate([part.labels for _, part in parts]),
            np.concatenate([part.scores for _, part in parts]),
        )
