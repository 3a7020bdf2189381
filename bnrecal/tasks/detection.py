"""Detection on the user's own images, scored by mAP@0.5 in the pixels the network sees."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnrecal.data.draws import Int64s
from bnrecal.data.image_cache import ImageCache
from bnrecal.data.labelled import BoxedImages
from bnrecal.errors import BnrecalError
from bnrecal.metrics.boxes import Detections, GroundTruth
from bnrecal.metrics.map50 import evidence, map50
from bnrecal.tasks.image_task import ImageTask
from bnrecal.tasks.task import PredictionParts


class Detection(ImageTask):
    """Predictions are `Detections`. Images are stretched, so boxes scale by side and IoU stays as it is."""

    metric = "map50"

    def __init__(
        self, name: str, calibration: BoxedImages, evaluation: BoxedImages, *rest: Any, **more: Any
    ) -> None:
        super().__init__(name, calibration, evaluation, *rest, **more)
        self.calibration_boxes, self.evaluation_boxes = calibration, evaluation
        if evaluation.crowd.all():
            raise BnrecalError(f"--evaluation: task {name}: no image has an object to find; nothing to score")
        left_out = calibration.n_left_out, evaluation.n_left_out
        if any(left_out):
            boxes = "{} boxes without area left out of --calibration, {} of --evaluation".format(*left_out)
            self.note = boxes if self.note is None else f"{self.note}; {boxes}"

    def score_calibration(self, ids: Int64s, parts: PredictionParts) -> float:
        return map50(self.calibration_truth(ids), Detections.join(parts))

    def score_evaluation(self, parts: PredictionParts, places: Int64s | None = None) -> float:
        return map50(self.evaluation_truth(places), Detections.join(parts))

    def evidence(self, parts: PredictionParts, places: Int64s | None = None) -> dict[str, NDArray[Any]]:
        return evidence(self.evaluation_truth(places), Detections.join(parts))

    def calibration_truth(self, ids: Int64s) -> GroundTruth:
        return self._truth(self.calibration_boxes, self.to_calibrate, ids)

    def evaluation_truth(self, places: Int64s | None = None) -> GroundTruth:
        scored = self.evaluated if places is None else self.evaluated[places]
        return self._truth(self.evaluation_boxes, self.to_evaluate, scored)

    def _truth(self, boxed: BoxedImages, cache: ImageCache, positions: Int64s) -> GroundTruth:
        """The objects of these images, numbered by their place in `positions`, in the network's pixels."""
        place = np.full(len(boxed.source), -1)
        place[positions] = np.arange(len(positions))
        here = place[boxed.image] >= 0
        sizes = cache.sizes(positions)  # (width, height) of the files
        self._check_sizes(boxed, positions, sizes)
        _, height, width = self.input_shape
        scale = np.array([width, height]) / sizes
        at = place[boxed.image[here]]
        order = np.argsort(at, kind="stable")
        at = at[order]
        boxes = boxed.boxes[here][order] * np.tile(scale[at], 2)
        crowd = boxed.crowd[here][order]
        return GroundTruth(
            len(positions), at, boxes, boxed.labels[here][order], crowd if crowd.any() else None
        )

    def _check_sizes(self, boxed: BoxedImages, positions: Int64s, sizes: Int64s) -> None:
        told = boxed.sizes[positions]
        wrong = np.flatnonzero((told > 0).all(1) & (told != sizes).any(1))
        if len(wrong):
            k = int(wrong[0])
            name = boxed.source.name(int(positions[k]))
            a, b = ("x".join(map(str, pair[k].tolist())) for pair in (told, sizes))
            raise BnrecalError(f"{name}: annotated as {a} pixels, the file has {b}; its boxes would not fit")
