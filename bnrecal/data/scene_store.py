"""Composed scenes as arrays, rendered once and then read from disk.

A split is a folder of three .npy files (pixels, boxes, labels) in the user's cache, named by
everything that shapes it. Pixels are read through a memory map that is closed after each reading, so
memory does not grow with the number of scenes. The folder appears whole or not at all; a damaged one
is rendered again.
"""

import functools
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bnrecal.data.draws import Int64s
from bnrecal.data.scenes import MAX_OBJECTS, SCENE, VERSION, compose
from bnrecal.data.sprites import sheets_digest
from bnrecal.host.files import appearing_folder, cache_folder

_BLOCK = 1024  # scenes rendered at a time
_CACHED_FROM = 1024  # fewer scenes than this are rendered faster than a folder is worth
_FILES = ("pixels", "boxes", "labels")

Arrays = tuple[NDArray[np.uint8], NDArray[np.int16], NDArray[np.int16]]


class SceneSet:
    """The first `n` scenes of split "train" or "val"."""

    def __init__(self, split: str, n: int) -> None:
        self.split, self.n = split, n

    @functools.cached_property
    def _pixels_and_truth(self) -> tuple[Path | NDArray[np.uint8], NDArray[np.int16], NDArray[np.int16]]:
        """Pixels (where they are on disk, or themselves), boxes and labels."""
        if self.n < _CACHED_FROM:
            return _render(self.split, 0, self.n)
        folder = cache_folder() / f"scenes-{VERSION}-{sheets_digest()[:12]}-{self.split}-{self.n}"
        found = _read(folder, self.n)
        if found is None:
            _write(folder, self.split, self.n)
            found = _read(folder, self.n)
        if found is None:  # no room on disk: keep them in memory
            return _render(self.split, 0, self.n)
        _, boxes, labels = found
        return folder / "pixels.npy", np.array(boxes), np.array(labels)

    def pixels(self, indices: Int64s) -> NDArray[np.uint8]:
        """Grey images (images, 1, 64, 64)."""
        pixels = self._pixels_and_truth[0]
        if isinstance(pixels, Path):
            pixels = np.load(pixels, mmap_mode="r")
        return np.asarray(pixels[indices])[:, None]

    def objects(self, indices: Int64s) -> tuple[Int64s, NDArray[np.float64], Int64s]:
        """Ground truth of these scenes, flat: image k is `indices[k]`.

        Returns image (objects,), boxes (objects, 4) as x y width height in pixels, labels (objects,).
        """
        _, boxes, labels = self._pixels_and_truth
        chosen = labels[indices]
        image, slot = np.nonzero(chosen >= 0)
        found = boxes[indices][image, slot].astype(np.float64)
        return image, found, chosen[image, slot].astype(np.int64)


def _render(split: str, start: int, stop: int) -> Arrays:
    """Scenes start..stop-1: pixels (n, 64, 64), boxes (n, 4, 4), labels (n, 4), -1 for no object."""
    n = stop - start
    pixels = np.empty((n, SCENE, SCENE), np.uint8)
    boxes = np.zeros((n, MAX_OBJECTS, 4), np.int16)
    labels = np.full((n, MAX_OBJECTS), -1, np.int16)
    for k, scene in enumerate(compose(split, np.arange(start, stop))):
        pixels[k] = scene.pixels
        boxes[k, : len(scene.boxes)] = scene.boxes
        labels[k, : len(scene.labels)] = scene.labels
    return pixels, boxes, labels


def _write(folder: Path, split: str, n: int) -> None:
    """Render into a folder beside the final one and rename it; a full or closed disk is no error."""
    shutil.rmtree(folder, ignore_errors=True)  # one that is cut short or of another shape
    try:
        with appearing_folder(folder) as work:
            blocks = [_render(split, k, min(k + _BLOCK, n)) for k in range(0, n, _BLOCK)]
            for name, parts in zip(_FILES, zip(*blocks, strict=True), strict=True):
                np.save(work / f"{name}.npy", np.concatenate(parts))
    except OSError:
        pass  # kept in memory then


def _read(folder: Path, n: int) -> Arrays | None:
    try:
        pixels, boxes, labels = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in _FILES)
    except (OSError, ValueError, EOFError):
        return None
    sound = (
        pixels.shape == (n, SCENE, SCENE)
        and boxes.shape == (n, MAX_OBJECTS, 4)
        and labels.shape == (n, MAX_OBJECTS)
    )
    return (pixels, boxes, labels) if sound else None
