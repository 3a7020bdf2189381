"""Tasks `garments` and `tiny`: detect garments in composed scenes; scored by mAP@0.5."""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bnrecal.data.draws import Int64s, permutation, stream_key
from bnrecal.data.scene_store import SceneSet
from bnrecal.data.scenes import SCENE, VERSION
from bnrecal.data.sprites import CLASSES, sheets_digest
from bnrecal.metrics.boxes import Detections, GroundTruth
from bnrecal.metrics.map50 import evidence, map50
from bnrecal.tasks.task import OnDecoded, PredictionParts

if TYPE_CHECKING:
    from torch import Tensor

# Mean and standard deviation of the pixels of the training scenes, rounded; part of the task, so that
# training and evaluation cannot disagree.
PIXEL_MEAN, PIXEL_STD = 88.0, 47.0


class Garments:
    """`n_calibration` training scenes and `n_evaluation` validation scenes, 64 x 64, 10 classes."""

    metric = "map50"
    classes: tuple[str, ...] = CLASSES
    input_shape = (1, SCENE, SCENE)
    note: str | None = None
    resolved: Mapping[str, Any] = {}
    prepared: str | None = None

    def __init__(self, name: str, n_calibration: int, n_evaluation: int) -> None:
        self.name, self.n_calibration, self.n_evaluation = name, n_calibration, n_evaluation
        self.training_scenes = SceneSet("train", n_calibration)
        self.validation_scenes = SceneSet("val", n_evaluation)

    def data_digest(self) -> str:
        facts = f"garments {VERSION} {sheets_digest()} {self.n_calibration} {self.n_evaluation}"
        return hashlib.sha256(facts.encode()).hexdigest()[:16]

    def order(self, seed: int) -> Int64s:
        return permutation(stream_key("garments-order", seed), self.n_calibration)

    def order_digest(self, ids: Int64s) -> str:
        """Of the ids alone: what the scenes show is in `data_digest`."""
        return hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest()[:16]

    def prepare(self, ids: Int64s, on_decoded: OnDecoded) -> int:
        """Scenes are rendered when they are first read."""
        return 0

    def calibration_images(self, ids: Int64s) -> NDArray[np.uint8]:
        return self.training_scenes.pixels(ids)

    def evaluation_images(self, start: int, stop: int) -> NDArray[np.uint8]:
        return self.validation_scenes.pixels(np.arange(start, stop))

    def evaluation_images_at(self, places: Int64s) -> NDArray[np.uint8]:
        return self.validation_scenes.pixels(places)

    def to_input(self, images: "Tensor") -> "Tensor":
        return images.float().sub_(PIXEL_MEAN).div_(PIXEL_STD)

    def score_calibration(self, ids: Int64s, parts: PredictionParts) -> float:
        return map50(self.calibration_truth(ids), Detections.join(parts))

    def score_evaluation(self, parts: PredictionParts, places: Int64s | None = None) -> float:
        return map50(self.evaluation_truth(places), Detections.join(parts))

    def evidence(self, parts: PredictionParts, places: Int64s | None = None) -> dict[str, NDArray[Any]]:
        return evidence(self.evaluation_truth(places), Detections.join(parts))

    def calibration_truth(self, ids: Int64s) -> GroundTruth:
        return GroundTruth(len(ids), *self.training_scenes.objects(ids))

    def evaluation_truth(self, places: Int64s | None = None) -> GroundTruth:
        """Of these evaluation scenes, or of all."""
        places = np.arange(self.n_evaluation) if places is None else places
        return GroundTruth(len(places), *self.validation_scenes.objects(places))
