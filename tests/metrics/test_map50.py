import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnrecal.metrics.boxes import Detections, GroundTruth
from bnrecal.metrics.coco import coco_figures
from bnrecal.metrics.map50 import evidence, from_evidence, map50

REFERENCE = Path(__file__).parent.parent / "reference"


def as_arrays(truth: dict[str, Any], found: list[dict[str, Any]]) -> tuple[GroundTruth, Detections]:
    """A COCO document and result list as the flat arrays map50 takes."""
    position = {i: k for k, i in enumerate(sorted(image["id"] for image in truth["images"]))}

    def column(rows: list[dict[str, Any]], name: str) -> Any:
        return np.array([row[name] for row in rows])

    def images(rows: list[dict[str, Any]]) -> Any:
        return np.array([position[row["image_id"]] for row in rows], np.int64)

    objects = truth["annotations"]
    crowd = column(objects, "iscrowd").astype(bool)
    boxes = column(objects, "bbox").reshape(-1, 4).astype(float)
    return (
        GroundTruth(len(position), images(objects), boxes, column(objects, "category_id"), crowd),
        Detections(
            images(found),
            column(found, "bbox").reshape(-1, 4).astype(float),
            column(found, "category_id").astype(np.int64),
            column(found, "score").astype(float),
        ),
    )


def test_equals_pycocotools_on_real_boxes() -> None:
    """AP50 of the COCO pair, to the last bit that pycocotools gives, and to the official digits."""
    truth = json.loads((REFERENCE / "ground_truth.json").read_text())
    found = json.loads((REFERENCE / "detections.json").read_text())
    figure = map50(*as_arrays(truth, found))
    assert figure == pytest.approx(coco_figures(truth, found)["AP50"], abs=1e-12)
    assert figure == pytest.approx(0.696973, abs=1e-6)


# Corners and sizes from a few values, so that equal boxes, equal IoUs and IoUs of exactly .5 occur.
_corner = st.integers(0, 6).map(lambda k: k * 4.0)
_side = st.sampled_from([4.0, 8.0, 12.0, 16.0])
_bbox = st.tuples(_corner, _corner, _side, _side).map(list)
_score = st.sampled_from([0.1, 0.3, 0.5, 0.5, 0.9])
_object = st.fixed_dictionaries(
    {
        "image_id": st.integers(1, 4),
        "category_id": st.integers(1, 3),
        "bbox": _bbox,
        "iscrowd": st.sampled_from([0, 0, 0, 1]),
    }
)
_found = st.fixed_dictionaries(
    {
        "image_id": st.integers(1, 4),
        "category_id": st.integers(1, 4),
        "bbox": _bbox,
        "score": _score,
    }
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_object, min_size=1, max_size=14), st.lists(_found, min_size=1, max_size=30))
def test_equals_pycocotools_on_awkward_boxes(
    objects: list[dict[str, Any]], found: list[dict[str, Any]]
) -> None:
    """Ties in score and IoU, IoU of exactly .5, crowds, empty images, classes found but never there."""
    truth = {
        "images": [{"id": i} for i in range(1, 5)],
        "categories": [{"id": c} for c in range(1, 5)],
        "annotations": [
            {**o, "id": k, "area": o["bbox"][2] * o["bbox"][3]} for k, o in enumerate(objects, 1)
        ],
    }
    expected = coco_figures(truth, found)["AP50"]
    assert map50(*as_arrays(truth, found)) == pytest.approx(expected, abs=1e-12)
    # the same bits from the evidence of these boxes
    assert from_evidence(evidence(*as_arrays(truth, found))) == map50(*as_arrays(truth, found))


def test_only_a_hundred_detections_of_an_image_and_class_count() -> None:
    """101 misses of higher score before the only hit: the hit is cut off, as in pycocotools."""
    misses = [{"image_id": 1, "category_id": 1, "bbox": [50, 50, 4, 4], "score": 0.9}] * 100
    hit = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 8, 8], "score": 0.5}
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 1}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "bbox": [0, 0, 8, 8],
                "area": 64,
                "iscrowd": 0,
            }
        ],
    }
    assert map50(*as_arrays(truth, [*misses, hit])) == 0
    assert map50(*as_arrays(truth, [*misses[1:], hit])) == pytest.approx(0.01)


def test_nothing_to_find_is_minus_one() -> None:
    """No object at all: COCOeval's -1, not a perfect score."""
    empty = np.zeros(0, np.int64)
    truth = GroundTruth(3, empty, np.zeros((0, 4)), empty)
    assert map50(truth, Detections.join([])) == -1
    assert from_evidence(evidence(truth, Detections.join([]))) == -1


def test_parts_join_with_their_images() -> None:
    """Two batches joined score like one."""
    one = Detections(np.array([0, 1]), np.ones((2, 4)), np.array([0, 0]), np.array([0.5, 0.6]))
    joined = Detections.join([(0, one), (2, one)])
    assert joined.image.tolist() == [0, 1, 2, 3]
    assert joined.scores.tolist() == [0.5, 0.6, 0.5, 0.6]
