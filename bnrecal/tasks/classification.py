"""Classification of the user's own images, scored by top-1."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnrecal.data.draws import Int64s
from bnrecal.data.labelled import LabelledImages
from bnrecal.errors import BnrecalError
from bnrecal.tasks.image_task import ImageTask
from bnrecal.tasks.task import PredictionParts


class Classification(ImageTask):
    """Predictions are class indices (images,); one below 0 stands for outputs that are no numbers."""

    metric = "top1"

    def __init__(
        self, name: str, calibration: LabelledImages, evaluation: LabelledImages, *rest: Any, **more: Any
    ) -> None:
        super().__init__(name, calibration, evaluation, *rest, **more)
        self.calibration_labels, self.evaluation_labels = calibration.labels, evaluation.labels
        if calibration.without_images:
            some = ", ".join(calibration.without_images[:3])
            others = ", ..." if len(calibration.without_images) > 3 else ""
            what = f"{len(self.classes)} classes, of which --calibration has no image of {some}{others}"
            self.note = what if self.note is None else f"{self.note}; {what}"

    def score_calibration(self, ids: Int64s, parts: PredictionParts) -> float:
        return float(np.mean(_joined(parts) == self.calibration_labels[ids]))

    def score_evaluation(self, parts: PredictionParts, places: Int64s | None = None) -> float:
        """Fraction of the evaluation images whose class is right."""
        found = _joined(parts)
        n_bad = int((found < 0).sum())
        if n_bad:
            raise BnrecalError(
                f"the network's output is not finite on {n_bad} of {len(found)} evaluation images"
            )
        scored = self.evaluated if places is None else self.evaluated[places]
        return float(np.mean(found == self.evaluation_labels[scored]))

    def evidence(self, parts: PredictionParts, places: Int64s | None = None) -> dict[str, NDArray[Any]]:
        """One bit an image: whether its class is right."""
        scored = self.evaluated if places is None else self.evaluated[places]
        right = _joined(parts) == self.evaluation_labels[scored]
        return {"correct": right.astype(np.uint8)}


def _joined(parts: PredictionParts) -> Int64s:
    """The parts in the order of their images."""
    found: Int64s = np.concatenate([np.asarray(part) for _, part in sorted(parts, key=lambda part: part[0])])
    return found
