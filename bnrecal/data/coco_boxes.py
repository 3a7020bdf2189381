"""COCO's annotation documents: images, annotations with boxes, categories."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bnrecal.data.image_source import Files
from bnrecal.data.labelled import BoxedImages
from bnrecal.errors import BnrecalError

_MAX_PIXELS = 1e6  # no side or coordinate is larger


def read_coco(path: Path, root: Path, option: str, classes: tuple[str, ...] | None) -> BoxedImages:
    """The images of the document, in its order, with their boxes; files below `root`.

    Classes are the categories by id, unless given by name. Raises BnrecalError, naming the document and
    the entry: not such a document, an unknown image or category, an id twice. Boxes whose width or height
    is not above 0 are counted and left out.
    """
    place = f"{option} {path}"
    document = _document(path, option)
    images = [_Image(entry, f"{place}: images[{k}]") for k, entry in enumerate(document["images"])]
    position = {image.id: k for k, image in enumerate(images)}
    if len(position) < len(images):
        raise BnrecalError(f"{place}: two images have one id")
    if not images:
        raise BnrecalError(f"{place}: names no image")
    names = _categories(document["categories"], place)
    if not names:
        raise BnrecalError(f"{place}: names no category")
    wanted = tuple(names[i] for i in sorted(names)) if classes is None else classes
    index = _indices(names, wanted, place)
    objects = []
    n_left_out = 0
    for k, entry in enumerate(document["annotations"]):
        at = f"{place}: annotations[{k}]"
        image, category, box, crowd = _annotation(entry, at)
        if image not in position:
            raise BnrecalError(f"{at}: image_id {image!r} is not among the images")
        if category not in index:
            raise BnrecalError(f"{at}: category_id {category!r} is not among the categories")
        if box[2] <= 0 or box[3] <= 0:
            n_left_out += 1
            continue
        objects.append((position[image], *box, index[category], crowd))
    table = np.array(objects, np.float64).reshape(-1, 7)
    return BoxedImages(
        Files(root, [image.file for image in images], place),
        table[:, 0].astype(np.int64),
        table[:, 1:5].copy(),
        table[:, 5].astype(np.int64),
        table[:, 6].astype(bool),
        np.array([image.size for image in images], np.int64),
        wanted,
        n_left_out,
    )


def _document(path: Path, option: str) -> dict[str, list[Any]]:
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise BnrecalError(f"{option}: cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise BnrecalError(f"{option}: {path} is not a JSON file: {error}") from None
    keys = ("images", "annotations", "categories")
    if not isinstance(found, dict) or any(not isinstance(found.get(key), list) for key in keys):
        raise BnrecalError(f"{option}: {path} is no COCO annotation file; needs the lists {', '.join(keys)}")
    return found


class _Image:
    def __init__(self, entry: Any, place: str) -> None:
        _check(isinstance(entry, dict) and {"id", "file_name"} <= entry.keys(), entry, place, "id, file_name")
        self.id, self.file = entry["id"], entry["file_name"]
        sides = (entry.get("width", 0), entry.get("height", 0))
        _check(_is_id(self.id) and isinstance(self.file, str), entry, place, "an id and a file name")
        _check(all(_is_number(side) and side >= 0 for side in sides), entry, place, "width and height")
        self.size = tuple(int(side) for side in sides)


def _categories(entries: Sequence[Any], place: str) -> dict[Any, str]:
    names: dict[Any, str] = {}
    seen: set[str] = set()
    for k, entry in enumerate(entries):
        good = isinstance(entry, dict) and _is_id(entry.get("id")) and isinstance(entry.get("name"), str)
        _check(good, entry, f"{place}: categories[{k}]", "id and name")
        if entry["id"] in names or entry["name"] in seen:
            raise BnrecalError(f"{place}: categories[{k}]: {entry['name']!r} or its id stands there twice")
        names[entry["id"]] = entry["name"]
        seen.add(entry["name"])
    if len({type(key) for key in names}) > 1:
        raise BnrecalError(f"{place}: category ids of different types")
    return names


def _indices(names: Mapping[Any, str], classes: Sequence[str], place: str) -> dict[Any, int]:
    where = {name: k for k, name in enumerate(classes)}
    for name in names.values():
        if name not in where:
            raise BnrecalError(f"{place}: unknown category {name!r}; there are {', '.join(classes[:8])}")
    return {key: where[name] for key, name in names.items()}


def _annotation(entry: Any, place: str) -> tuple[Any, Any, list[float], bool]:
    needed = {"image_id", "category_id", "bbox"}
    _check(isinstance(entry, dict) and needed <= entry.keys(), entry, place, ", ".join(sorted(needed)))
    box = entry["bbox"]
    four = isinstance(box, list) and len(box) == 4 and all(_is_number(value) for value in box)
    _check(four, box, place, "a bbox of four numbers: x, y, width, height in pixels")
    image, category = entry["image_id"], entry["category_id"]
    _check(_is_id(image) and _is_id(category), entry, place, "whole numbers as ids")
    return image, category, [float(value) for value in box], entry.get("iscrowd", 0) in (1, True)


def _check(good: bool, value: Any, place: str, needed: str) -> None:
    if not good:
        raise BnrecalError(f"{place}: {str(value)[:80]}; needs {needed}")


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MAX_PIXELS
