"""Detection scenes composed of garments: 64 x 64 grey pixels, 1 to 4 objects of 10 classes.

Scene i of a split depends on (VERSION, split, i) alone. Every number comes from `draws`, every
pixel from integer arithmetic (products of matrices run in float64, where integers this small are
exact in any order of summation), so a scene is the same on every machine. Whatever changes a pixel
or a box must raise VERSION.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bnrecal.data.draws import Int64s, draws, stream_key
from bnrecal.data.sprites import SIDE, sprites

VERSION = 1
SCENE = 64  # pixels
MAX_OBJECTS = 4
SMALLEST, LARGEST = (
    14,
    40,
)  # pixels a sprite's square may measure before its empty margin is cut off

_POSITIONS = 6  # places tried for an object before it is left out
_MAX_COVER = 0.45  # of the smaller of two boxes
_PIECES = 5  # of clutter
_LATTICES = (4, 9)  # knots per side of the two layers of background noise
_BACKGROUND_DRAWS = 4 + sum(k * k for k in _LATTICES)
_NOISE_DRAWS = SCENE * SCENE // 8  # a byte a pixel
_PIECE_DRAWS = 8
_OBJECT_DRAWS = 8 + 2 * _POSITIONS
_DRAWS = _BACKGROUND_DRAWS + _NOISE_DRAWS + _PIECES * _PIECE_DRAWS + 1 + MAX_OBJECTS * _OBJECT_DRAWS

Pixels = NDArray[np.uint8]
Float64s = NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """One composed image and its ground truth."""

    pixels: Pixels  # (64, 64)
    boxes: NDArray[np.int16]  # (objects, 4): x, y, width, height in pixels
    labels: NDArray[np.int16]  # (objects,): 0..9


class _Dice:
    """Hands out one scene's draws in order; a fixed number per part keeps parts independent."""

    def __init__(self, row: NDArray[np.uint64]) -> None:
        self._row = row.tolist()
        self._next = 0

    def between(self, low: int, high: int) -> int:
        """An integer in low..high, both included."""
        value = self._row[self._next] >> 11
        self._next += 1
        return int(low + value % (high - low + 1))

    def skip_to(self, position: int) -> None:
        self._next = position


@functools.cache
def _resize_matrix(size: int, source: int = SIDE) -> Float64s:
    """Rows of integer weights (sum about 256) that resize `source` pixels to `size`; (size, source).

    A triangle as wide as the larger pixel: bilinear upwards, area-like downwards. All in integers:
    positions are in units of 1 / (2 * size) source pixels.
    """
    width = 2 * max(size, source)
    centres = (2 * np.arange(size) + 1) * source
    pixels = (2 * np.arange(source) + 1) * size
    weights = np.maximum(0, width - np.abs(centres[:, None] - pixels[None, :]))
    shares: Float64s = (weights * 256 // weights.sum(1, keepdims=True)).astype(np.float64)
    return shares


def _resized(image: NDArray[np.generic], height: int, width: int) -> NDArray[np.int64]:
    """An integer image resized; values keep their range."""
    rows = _resize_matrix(height, image.shape[0])
    columns = _resize_matrix(width, image.shape[1])
    return (rows @ image.astype(np.float64) @ columns.T).astype(np.int64) >> 16


def _background(dice: _Dice, noise: Pixels) -> NDArray[np.int64]:
    base, coarse, fine, grain = (
        dice.between(30, 120),
        dice.between(20, 90),
        dice.between(0, 70),
        dice.between(4, 28),
    )
    canvas = np.full((SCENE, SCENE), base, np.int64)
    for knots, depth in zip(_LATTICES, (coarse, fine), strict=True):
        lattice = np.array([dice.between(0, 255) for _ in range(knots * knots)]).reshape(knots, knots)
        canvas += (_resized(lattice, SCENE, SCENE) - 128) * depth >> 8
    return canvas + ((noise.astype(np.int64) - 128) * grain >> 7)


def _paste(
    canvas: NDArray[np.int64], value: NDArray[np.int64], alpha: NDArray[np.int64], x: int, y: int
) -> None:
    """Blend `value` over the canvas at (x, y); alpha 0..256."""
    window = canvas[y : y + value.shape[0], x : x + value.shape[1]]
    window += (value - window) * alpha >> 8


def _clutter(canvas: NDArray[np.int64], dice: _Dice, garments: Pixels) -> None:
    """A bar or a torn-off piece of a garment: bright and textured, but no object."""
    if dice.between(0, 1):
        height, width = dice.between(2, 4), dice.between(10, 30)
        if dice.between(0, 1):
            height, width = width, height
        value = np.full((height, width), dice.between(1, 255), np.int64)
    else:
        source = garments[dice.between(0, 9), dice.between(0, garments.shape[1] - 1)]
        left, top = dice.between(0, SIDE - 12), dice.between(0, SIDE - 12)
        height = width = dice.between(7, 13)
        value = _resized(source[top : top + 12, left : left + 12], height, width)
    x, y = dice.between(0, SCENE - width), dice.between(0, SCENE - height)
    _paste(canvas, value, np.minimum(256, value * 4), x, y)


def _covered(box: tuple[int, int, int, int], others: list[tuple[int, int, int, int]]) -> bool:
    """Whether `box` and any other share more than _MAX_COVER of the smaller one's area."""
    x, y, w, h = box
    for ox, oy, ow, oh in others:
        shared = max(0, min(x + w, ox + ow) - max(x, ox)) * max(0, min(y + h, oy + oh) - max(y, oy))
        if shared > _MAX_COVER * min(w * h, ow * oh):
            return True
    return False


def _garment(dice: _Dice, garments: Pixels) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
    """One object cut to its visible pixels: label, value and alpha (0..256) of the same shape."""
    label, which = dice.between(0, 9), dice.between(0, garments.shape[1] - 1)
    height = dice.between(SMALLEST, LARGEST)
    width = min(LARGEST, max(SMALLEST, height * dice.between(205, 307) >> 8))
    mirrored, gain, lift = dice.between(0, 1), dice.between(70, 256), dice.between(0, 60)
    sprite = garments[label, which]
    shape = _resized(sprite[:, ::-1] if mirrored else sprite, height, width)
    alpha = np.minimum(256, shape * 6)
    seen = alpha >= 96
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    return label, (shape[window] * gain >> 8) + lift, alpha[window]


def _objects(
    canvas: NDArray[np.int64], dice: _Dice, garments: Pixels, start: int
) -> tuple[list[tuple[int, int, int, int]], list[int]]:
    """Paste 1 to 4 garments; an object that finds no place in _POSITIONS tries is left out."""
    boxes: list[tuple[int, int, int, int]] = []
    labels: list[int] = []
    for k in range(dice.between(1, MAX_OBJECTS)):
        dice.skip_to(start + 1 + k * _OBJECT_DRAWS)
        label, value, alpha = _garment(dice, garments)
        height, width = value.shape
        for _ in range(_POSITIONS):
            x, y = dice.between(0, SCENE - width), dice.between(0, SCENE - height)
            if not _covered((x, y, width, height), boxes):
                _paste(canvas, value, alpha, x, y)
                boxes.append((x, y, width, height))
                labels.append(label)
                break
    return boxes, labels


def _compose(row: NDArray[np.uint64], garments: Pixels) -> Scene:
    dice = _Dice(row)
    start = _BACKGROUND_DRAWS
    noise = row[start : start + _NOISE_DRAWS].astype("<u8").view(np.uint8).reshape(SCENE, SCENE)
    canvas = _background(dice, noise)
    start += _NOISE_DRAWS
    for k in range(_PIECES):
        dice.skip_to(start + k * _PIECE_DRAWS)
        _clutter(canvas, dice, garments)
    start += _PIECES * _PIECE_DRAWS
    dice.skip_to(start)
    boxes, labels = _objects(canvas, dice, garments, start)
    return Scene(
        np.clip(canvas, 0, 255).astype(np.uint8),
        np.array(boxes, np.int16).reshape(-1, 4),
        np.array(labels, np.int16),
    )


def compose(split: str, indices: Int64s) -> list[Scene]:
    """The scenes with these indices of split "train" or "val"."""
    garments = sprites(split)
    rows = draws(stream_key("garment-scenes", VERSION, split), indices, _DRAWS)
    return [_compose(row, garments) for row in rows]
