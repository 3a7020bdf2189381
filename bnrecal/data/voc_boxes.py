"""Pascal VOC's layout: JPEGImages/, Annotations/ with an XML file an image, and lists of ids."""

from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from bnrecal.data.class_folders import EXTENSIONS
from bnrecal.data.image_source import Files
from bnrecal.data.labelled import BoxedImages, class_indices
from bnrecal.errors import BnrecalError

_MAX_PIXELS = 1e6


def read_voc(ids_file: Path, root: Path, option: str, classes: tuple[str, ...] | None) -> BoxedImages:
    """The images of the id list, in its order.

    Boxes are VOC's, 1-based with both ends included: xmin = 1, xmax = 10 is 10 pixels wide from x = 0.
    A box whose sides do not lie apart (xmax <= xmin or ymax <= ymin) has no area: it is counted and left
    out, as training on such boxes does everywhere (COCO counts boxes of width or height 0 alike). Objects
    marked difficult count as crowd: they need not be found. Classes are the names that occur,
    sorted, unless given. Raises BnrecalError naming the file at fault.
    """
    ids = _ids(ids_file, option)
    place = f"{option} {ids_file}"
    for name in ids:
        if ".." in Path(name).parts or name.startswith(("/", "\\")):
            raise BnrecalError(f"{place}: image {name!r} leaves the image folder {root}")
    objects: list[tuple[int, float, float, float, float, bool]] = []
    names: list[str] = []
    of: list[str] = []
    sizes = []
    n_left_out = 0
    for k, name in enumerate(ids):
        path = root / "Annotations" / f"{name}.xml"
        tree = _tree(path, place)
        sizes.append(_size(tree, path))
        for entry in tree.findall("object"):
            box = _box(entry, path)
            if box[2] <= 1 or box[3] <= 1:  # both ends included: sides that coincide are one pixel apart
                n_left_out += 1
                continue
            names.append(_name(entry, path))
            of.append(str(path))
            objects.append((k, *box, (entry.findtext("difficult") or "0").strip() == "1"))
    if not names and classes is None:
        raise BnrecalError(f"{place}: no object on any image; --classes names what may stand on them")
    wanted = tuple(sorted(set(names))) if classes is None else classes
    table = np.array(objects, np.float64).reshape(-1, 6)
    return BoxedImages(
        Files(root / "JPEGImages", [_file_of(name, root, place) for name in ids], place),
        table[:, 0].astype(np.int64),
        table[:, 1:5].copy(),
        class_indices(names, wanted, place, of),
        table[:, 5].astype(bool),
        np.array(sizes, np.int64),
        wanted,
        n_left_out,
    )


def _ids(path: Path, option: str) -> list[str]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise BnrecalError(f"{option}: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BnrecalError(f"{option}: {path} is not a list of image ids, one a line") from None
    ids = [line.split()[0] for line in lines if line.strip()]
    if not ids:
        raise BnrecalError(f"{option}: {path} names no image")
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise BnrecalError(f"{option}: {path}: image {twice!r} stands there twice")
    return ids


def _tree(path: Path, place: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(path.read_bytes())
    except OSError as error:
        raise BnrecalError(f"{path}: cannot be read: {error.strerror} (named by {place})") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise BnrecalError(f"{path}: not an XML file: {error}") from None


def _size(tree: ElementTree.Element, path: Path) -> tuple[int, int]:
    if tree.find("size") is None:
        return (0, 0)
    return int(_number(tree, "size/width", path)), int(_number(tree, "size/height", path))


def _name(entry: ElementTree.Element, path: Path) -> str:
    name = (entry.findtext("name") or "").strip()
    if not name:
        raise BnrecalError(f"{path}: an object has no name; needs the name of its class")
    return name


def _box(entry: ElementTree.Element, path: Path) -> tuple[float, float, float, float]:
    """x, y, width, height in pixels, from 0."""
    x1, y1, x2, y2 = (_number(entry, f"bndbox/{side}", path) for side in ("xmin", "ymin", "xmax", "ymax"))
    return x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1


def _number(entry: ElementTree.Element, name: str, path: Path) -> float:
    text = entry.findtext(name)
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not abs(value) <= _MAX_PIXELS:
        raise BnrecalError(f"{path}: {name} is {text!r}; needs a number of pixels")
    return value


def _file_of(name: str, root: Path, place: str) -> str:
    """The image of this id: JPEG as VOC has it, or any other known kind."""
    for extension in EXTENSIONS:
        if (root / "JPEGImages" / f"{name}{extension}").exists():
            return f"{name}{extension}"
    raise BnrecalError(f"{root}/JPEGImages/{name}.jpg: no such image (named by {place})")
