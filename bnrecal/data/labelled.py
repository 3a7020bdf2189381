"""What a reader of a data set hands over: images with a class each, or with boxes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bnrecal.data.draws import Int64s
from bnrecal.data.image_source import ImageSource
from bnrecal.errors import BnrecalError

Float64s = NDArray[np.float64]


@dataclass(frozen=True)
class LabelledImages:
    """Images with one class each: labels (images,), indices into `classes`.

    `without_images` are classes that a folder without images is all there is of.
    """

    source: ImageSource
    labels: Int64s
    classes: tuple[str, ...]
    without_images: tuple[str, ...] = ()

    def facts(self) -> bytes:
        return self.labels.astype("<i8").tobytes()


@dataclass(frozen=True)
class BoxedImages:
    """Images with objects, flat: object k lies on image `image[k]`.

    Boxes (objects, 4) as x y width height in pixels of the file, which has `sizes[i]` (width, height)
    pixels according to the annotation, (0, 0) if that says nothing. Crowd objects need not be found.
    """

    source: ImageSource
    image: Int64s
    boxes: Float64s
    labels: Int64s
    crowd: NDArray[np.bool_]
    sizes: Int64s
    classes: tuple[str, ...]
    n_left_out: int = 0  # boxes without area

    def facts(self) -> bytes:
        parts = (self.image.astype("<i8"), self.boxes.astype("<f8"), self.labels.astype("<i8"), self.crowd)
        return b"".join(part.tobytes() for part in parts)


def class_indices(
    names: Sequence[str], classes: Sequence[str], place: str, of: Sequence[str] | None = None
) -> Int64s:
    """The index of each name in `classes`.

    Raises BnrecalError, naming the place and the first image (`of`) of an unknown class.
    """
    index = {name: k for k, name in enumerate(classes)}
    for k, name in enumerate(names):
        if name not in index:
            where = f" ({of[k]})" if of else ""
            some = ", ".join(classes[:8]) + (", ..." if len(classes) > 8 else "")
            raise BnrecalError(f"{place}: unknown class {name!r}{where}; there are {len(classes)}: {some}")
    return np.array([index[name] for name in names], np.int64)


def natural_classes(names: Iterable[str]) -> tuple[str, ...]:
    """The classes these names stand for: indices if all are whole numbers, else the names, sorted.

    Labels 0, 2, 3 mean the classes 0 to 3, as a network trained with such labels has them.
    """
    found = sorted(set(names))
    if found and all(name.isascii() and name.isdigit() and len(name) < 7 for name in found):
        return tuple(str(k) for k in range(max(map(int, found)) + 1))
    return tuple(found)
