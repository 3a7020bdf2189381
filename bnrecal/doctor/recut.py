"""The same images in batches of another size, and whether a second reading gives them again."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from bnrecal.errors import BnrecalError
from bnrecal.recalibration.batches import count_images, images_between, joined


def taken(batches: Iterable[Any], n: int) -> list[Any]:
    """The batches of the first n images, the last one cut to fit; fewer if there are fewer."""
    kept, read = [], 0
    for batch in batches:
        size = count_images(batch)
        if read + size > n:
            batch = images_between(batch, 0, n - read)
        if size:
            kept.append(batch)
        read += size
        if read >= n:
            break
    return kept


def recut(batches: Iterable[Any], size: int) -> Iterator[Any]:
    """The same images in the same order, `size` in a batch.

    Raises BnrecalError if images of different shapes would meet in one batch.
    """
    waiting: list[Any] = []
    n_waiting = 0
    for batch in batches:
        at, n = 0, count_images(batch)
        while at < n:
            step = min(size - n_waiting, n - at)
            waiting.append(images_between(batch, at, at + step))
            n_waiting += step
            at += step
            if n_waiting == size:
                yield joined(waiting)
                waiting, n_waiting = [], 0
    if waiting:
        yield joined(waiting)


@dataclass(frozen=True)
class Reading:
    """How a second reading compares with the first."""

    same: bool
    n_other: int  # images of the second reading that the first did not have, bit for bit
    n_images: int
    first_difference: int | None  # position of the first image that is not the one read before
    dataset_changes: bool | None  # whether dataset[i] read twice differs; None: there is no such thing


def compare_readings(first: list[Any], batches: Iterable[Any]) -> Reading:
    """Read as many images again from `batches` and compare bit for bit."""
    n = sum(map(count_images, first))
    before = [_digest(image) for image in recut(first, 1)]
    again = [_digest(image) for image in recut(taken(batches, n), 1)]
    if before == again:
        return Reading(True, 0, n, None, None)
    known = set(before)
    where = next((k for k, (a, b) in enumerate(zip(before, again, strict=False)) if a != b), len(again))
    n_other = sum(digest not in known for digest in again)
    return Reading(False, n_other, n, where, _dataset_changes(batches))


def _dataset_changes(batches: Iterable[Any]) -> bool | None:
    dataset = getattr(batches, "dataset", None)
    if dataset is None or not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        return None
    readings = ([_digest(dataset[k]) for k in range(min(8, len(dataset)))] for _ in range(2))
    return next(readings) != next(readings)


def _digest(value: Any) -> bytes:
    """Digest of every tensor and number in a batch or sample."""
    digest = hashlib.blake2b(digest_size=16)
    for leaf in pytree.tree_leaves(value):
        if isinstance(leaf, Tensor):
            plain = leaf.detach().cpu().contiguous()
            digest.update(f"{plain.dtype}{tuple(plain.shape)}".encode())
            digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(leaf, str | bytes | int | float | bool) or leaf is None:
            digest.update(repr(leaf).encode())
        elif hasattr(leaf, "tobytes"):  # numpy arrays, Pillow images
            digest.update(leaf.tobytes())
    return digest.digest()


def check_rereadable(batches: Iterable[Any]) -> None:
    """Raise BnrecalError for an iterator, which can be read once."""
    if iter(batches) is batches:
        raise BnrecalError("the batches are an iterator, which can be read once; give a loader or a list")
