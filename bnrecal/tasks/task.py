"""What a task has to offer. A new kind of data is a new file with these few methods."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Int64s = NDArray[np.int64]

# Predictions of consecutive images, each part with the position of its first image. What a part is,
# the network's `predict` and the task agree on (`Detections` for map50, class indices for top1); nobody
# between them looks.
PredictionParts = Sequence[tuple[int, Any]]
OnDecoded = Callable[[int], None]  # told how many images were just decoded


class Task(Protocol):
    """A data set with a meaning. Images are uint8 (images, channels, height, width)."""

    name: str
    metric: str  # "map50" or "top1"
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]  # channels, height, width
    n_calibration: int  # images that may be used to re-estimate statistics
    n_evaluation: int
    note: str | None  # what the user should know before a run, such as images left out

    @property
    def resolved(self) -> Mapping[str, Any]:
        """Fields of `Inputs` that say how its images are prepared, defaults filled in."""
        ...

    @property
    def prepared(self) -> str | None:
        """The same in words; None where images come as they are."""
        ...

    def data_digest(self) -> str:
        """Hex digest of what decides pixels and labels, but for the content of calibration images."""
        ...

    def order(self, seed: int) -> Int64s:
        """The fixed order of all calibration images, drawn from `seed`; shape (n_calibration,)."""
        ...

    def order_digest(self, ids: Int64s) -> str:
        """Hex digest of which images these are, in order, and of what they show."""
        ...

    def prepare(self, ids: Int64s, on_decoded: OnDecoded) -> int:
        """Decode what a study over these calibration images needs and is not cached; how many it was."""
        ...

    def calibration_images(self, ids: Int64s) -> NDArray[np.uint8]: ...

    def evaluation_images(self, start: int, stop: int) -> NDArray[np.uint8]: ...

    def evaluation_images_at(self, places: Int64s) -> NDArray[np.uint8]:
        """Those at these places of the evaluation set, in that order."""
        ...

    def to_input(self, images: "Tensor") -> "Tensor":
        """uint8 images on any device -> float32 network input of the same layout."""
        ...

    def score_calibration(self, ids: Int64s, parts: PredictionParts) -> float:
        """The metric over these calibration images, all of which `parts` must cover."""
        ...

    def score_evaluation(self, parts: PredictionParts, places: Int64s | None = None) -> float:
        """The metric over the whole evaluation set, or over its images at `places`.

        `parts` cover these, in that order, and count them from 0.
        """
        ...

    def evidence(self, parts: PredictionParts, places: Int64s | None = None) -> dict[str, NDArray[Any]]:
        """What that score rests on, image by image, from which intervals are drawn; `places` as there.

        For top1 {"correct": uint8 (images,)}, for map50 what `bnrecal.metrics.map50.evidence` gives.
        """
        ...
