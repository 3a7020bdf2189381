"""mAP@0.5 exactly as pycocotools computes it, many times faster.

COCOeval walks image by image and class by class in Python, for ten IoU thresholds and four area
ranges. A sweep needs one number: IoU 0.5, all areas, 100 detections an image and class. Here all
images of a class are matched together: the greedy assignment is sequential only within one image,
so step r matches every image's r-th best detection at once. Same float64 arithmetic, same ties, so
the same figure (tests compare both on real and on random boxes).
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnrecal.metrics.boxes import Detections, Float64s, GroundTruth, Int64s

IOU_THRESHOLD = 0.5
MAX_DETECTIONS = 100  # per image and class
RECALLS = np.linspace(0.0, 1.0, 101)

Mask = NDArray[np.bool_]


def map50(truth: GroundTruth, found: Detections) -> float:
    """Mean over the classes that occur of the 101-point interpolated average precision at IoU 0.5.

    Returns -1.0 if there is no object to find at all, as COCOeval does.
    """
    crowd = _crowd(truth)
    classes = np.unique(truth.labels[~crowd])
    if not len(classes):
        return -1.0
    return float(np.mean([_class_precisions(truth, crowd, found, c) for c in classes]))


def evidence(truth: GroundTruth, found: Detections) -> dict[str, NDArray[Any]]:
    """What `map50` rests on, image by image: enough to compute it again for any multiset of the images.

    Of each class that occurs, in the order of `np.unique`, the detections that count, best score first:

    - `image` (detections,): which image it is on;
    - `hit` (detections,): whether it found an object;
    - `start` (classes + 1,): where each class begins in these two;
    - `objects` (classes, images): how many objects there are to find.

    `bnrecal.metrics.resampling` reads it. Matching is within an image, so it holds in every multiset.
    """
    crowd = _crowd(truth)
    classes = np.unique(truth.labels[~crowd])
    objects = np.zeros((len(classes), truth.n_images), np.int64)
    np.add.at(objects, (np.searchsorted(classes, truth.labels[~crowd]), truth.image[~crowd]), 1)
    scored = [_class_hits(truth, crowd, found, c) for c in classes]
    empty = np.zeros(0, np.int64)
    return {
        "image": _compact(np.concatenate([empty, *(found.image[mine] for mine, _, _ in scored)])),
        "hit": np.concatenate([empty, *(hit for _, hit, _ in scored)]).astype(np.uint8),
        "start": np.cumsum([0, *(len(mine) for mine, _, _ in scored)], dtype=np.int64),
        "objects": _compact(objects),
    }


def from_evidence(evidence: Mapping[str, NDArray[Any]]) -> float:
    """`map50` from what `evidence` gave, bit for bit, without matching anew; -1.0 without objects."""
    start, objects = evidence["start"], evidence["objects"]
    if not len(objects):
        return -1.0
    hits = [evidence["hit"][a:b].astype(bool) for a, b in itertools.pairwise(start)]
    n_objects = objects.sum(1, dtype=np.int64)
    return float(np.mean([_precisions(h, int(n)) for h, n in zip(hits, n_objects, strict=True)]))


def _crowd(truth: GroundTruth) -> Mask:
    return np.zeros(len(truth.labels), bool) if truth.crowd is None else truth.crowd


def _compact(counts: Int64s) -> NDArray[Any]:
    """The same numbers (none negative) in the smallest unsigned integers that hold them."""
    return counts.astype(np.min_scalar_type(int(counts.max(initial=0))))


def _class_hits(truth: GroundTruth, crowd: Mask, found: Detections, label: int) -> tuple[Int64s, Mask, int]:
    """Detections of one class that count, best score first; whether each is a hit; objects to find."""
    objects = np.flatnonzero((truth.labels == label) & ~crowd)
    objects = objects[np.argsort(truth.image[objects], kind="stable")]
    mine = np.flatnonzero(found.labels == label)
    mine = mine[np.lexsort((-found.scores[mine], found.image[mine]))]  # stable: image, then score
    rank = _rank_in_run(found.image[mine])
    mine, rank = mine[rank < MAX_DETECTIONS], rank[rank < MAX_DETECTIONS]
    image, boxes = found.image[mine], found.boxes[mine]
    hit = _match(truth.image[objects], truth.boxes[objects], image, boxes, rank)
    crowds = np.flatnonzero((truth.labels == label) & crowd)
    counts = hit | ~_in_crowd(truth.image[crowds], truth.boxes[crowds], image, boxes)
    mine, hit = mine[counts], hit[counts]
    by_score = np.argsort(-found.scores[mine], kind="stable")
    return mine[by_score], hit[by_score], len(objects)


def _class_precisions(truth: GroundTruth, crowd: Mask, found: Detections, label: int) -> Float64s:
    """Interpolated precision of one class at the 101 recalls; shape (101,)."""
    _, hit, n_objects = _class_hits(truth, crowd, found, label)
    return _precisions(hit, n_objects)


def _precisions(hit: Mask, n_objects: int) -> Float64s:
    """The same from the hits and misses, best score first."""
    n_hits = np.cumsum(hit, dtype=np.float64)
    recall = n_hits / n_objects
    precision = n_hits / (np.arange(1, len(hit) + 1) + np.spacing(1))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, RECALLS, side="left")
    return np.append(envelope, 0.0)[at]


def _in_crowd(crowd_image: Int64s, crowd_boxes: Float64s, image: Int64s, boxes: Float64s) -> Mask:
    """Detections of which at least IOU_THRESHOLD lies in one crowd of their image."""
    inside = np.zeros(len(image), bool)
    for where, box in zip(crowd_image, crowd_boxes, strict=True):
        here = np.flatnonzero(image == where)
        area = boxes[here, 2] * boxes[here, 3]
        shared = _shared_area(boxes[here], box)
        inside[here] |= (shared > 0) & (shared >= IOU_THRESHOLD * area)
    return inside


def _rank_in_run(values: Int64s) -> Int64s:
    """Position of each element within its run of equal values: [4 4 7 7 7] -> [0 1 0 1 2]."""
    positions = np.arange(len(values))
    starts = np.flatnonzero(np.append(True, values[1:] != values[:-1])[: len(values)])
    lengths = np.diff(np.append(starts, len(values)))
    return positions - np.repeat(starts, lengths)


def _match(
    object_image: Int64s,
    object_boxes: Float64s,
    image: Int64s,
    boxes: Float64s,
    rank: Int64s,
) -> Mask:
    """Which detections of one class hit an object; both sides sorted by image, detections by score.

    The best detection of an image chooses first; each takes the free object of highest IoU, the
    last of equal ones, if that IoU is at least IOU_THRESHOLD.
    """
    hit = np.zeros(len(image), bool)
    if not len(image) or not len(object_image):
        return hit
    images, first, count = np.unique(object_image, return_index=True, return_counts=True)
    row = np.searchsorted(images, image)  # the image's row in `taken`
    row = np.where((row < len(images)) & (images[np.minimum(row, len(images) - 1)] == image), row, -1)
    padded = np.arange(count.max())
    taken = padded >= count[:, None]  # (images, most objects); padding counts as taken
    by_rank = np.argsort(rank, kind="stable")
    bounds = np.searchsorted(rank[by_rank], np.arange(rank.max() + 2))
    for start, stop in itertools.pairwise(bounds):
        chosen = by_rank[start:stop]
        chosen = chosen[row[chosen] >= 0]
        at = row[chosen]
        candidates = np.minimum(first[at, None] + padded, len(object_image) - 1)
        overlap = _iou(boxes[chosen, None], object_boxes[candidates])
        overlap[taken[at]] = -1.0
        best = overlap.shape[1] - 1 - overlap[:, ::-1].argmax(1)  # the last of equal ones
        ok = overlap[np.arange(len(at)), best] >= IOU_THRESHOLD
        hit[chosen[ok]] = True
        taken[at[ok], best[ok]] = True
    return hit


def _shared_area(a: Float64s, b: Float64s) -> Float64s:
    """Area of the intersection of broadcast boxes x y w h, in the order pycocotools' C code computes."""
    width = np.minimum(a[..., 0] + a[..., 2], b[..., 0] + b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 1] + a[..., 3], b[..., 1] + b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    shared: Float64s = np.where((width > 0) & (height > 0), width * height, 0.0)
    return shared


def _iou(a: Float64s, b: Float64s) -> Float64s:
    """Intersection over union of broadcast boxes x y w h."""
    shared = _shared_area(a, b)
    union = a[..., 2] * a[..., 3] + b[..., 2] * b[..., 3] - shared
    with np.errstate(invalid="ignore", divide="ignore"):
        iou: Float64s = np.where(shared > 0, shared / union, 0.0)
    return iou
