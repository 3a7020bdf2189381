"""The twelve official COCO figures, by pycocotools: the reference for every mAP here."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

COCO_FIGURES = (
    "AP",
    "AP50",
    "AP75",
    "APsmall",
    "APmedium",
    "APlarge",
    "AR1",
    "AR10",
    "AR100",
    "ARsmall",
    "ARmedium",
    "ARlarge",
)


def coco_figures(
    ground_truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """All twelve figures over every image of `ground_truth`, those without detections included.

    `ground_truth` is a COCO annotation document (images, annotations, categories), `detections` a
    list of {image_id, category_id, bbox (x y w h), score}. A figure without any object is -1.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth = COCO()
        truth.dataset = {"info": {}, **ground_truth}
        truth.createIndex()
        found = truth.loadRes([dict(d) for d in detections]) if detections else _nothing(truth)
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.params.imgIds = sorted(truth.getImgIds())
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(COCO_FIGURES, map(float, evaluation.stats), strict=True))


def _nothing(truth: Any) -> Any:
    """loadRes refuses an empty list; a result set without annotations says the same."""
    from pycocotools.coco import COCO

    empty = COCO()
    empty.dataset = {**truth.dataset, "annotations": []}
    empty.createIndex()
    return empty
