import json
from pathlib import Path
from typing import Any

import pytest

from bnrecal.metrics.coco import COCO_FIGURES, coco_figures

REFERENCE = Path(__file__).parent.parent / "reference"
OFFICIAL = (
    *(0.504581, 0.696973, 0.572982, 0.585626, 0.519400, 0.501398),  # AP
    *(0.386813, 0.593680, 0.595353, 0.639811, 0.566421, 0.564291),  # AR
)


@pytest.fixture(scope="module")
def truth() -> dict[str, Any]:
    return json.loads((REFERENCE / "ground_truth.json").read_text())


@pytest.fixture(scope="module")
def found() -> list[dict[str, Any]]:
    return json.loads((REFERENCE / "detections.json").read_text())


def test_the_twelve_official_figures(truth: dict[str, Any], found: list[dict[str, Any]]) -> None:
    """All twelve on the COCO pair, to 1e-6; its hundredth image has no detection and counts."""
    figures = coco_figures(truth, found)
    assert tuple(figures) == COCO_FIGURES
    assert list(figures.values()) == pytest.approx(OFFICIAL, abs=1e-6)


def test_images_without_detections_count(truth: dict[str, Any], found: list[dict[str, Any]]) -> None:
    """Leaving out the image without detections gives the higher figure of a common mistake."""
    with_any = {d["image_id"] for d in found}
    images = [image for image in truth["images"] if image["id"] in with_any]
    objects = [a for a in truth["annotations"] if a["image_id"] in with_any]
    fewer = {**truth, "images": images, "annotations": objects}
    assert len(images) == 99
    assert coco_figures(fewer, found)["AP"] == pytest.approx(0.506985, abs=1e-6)


def test_no_detection_at_all_scores_zero(truth: dict[str, Any]) -> None:
    """An empty result is a result."""
    assert coco_figures(truth, [])["AP50"] == 0
