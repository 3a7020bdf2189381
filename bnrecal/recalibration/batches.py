"""What counts as a batch: how it is run, how many images it holds, how it is cut."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor, nn

from bnrecal.errors import BnrecalError

Forward = Callable[[nn.Module, Any], Any]


def call(model: nn.Module, batch: Any) -> Any:
    """The default way to run a batch: model(batch), or its first element if it is a tuple or list.

    A list of single images (channels, height, width) is handed over whole, as torchvision's
    detection models take it.
    """
    pair = isinstance(batch, tuple | list) and not _is_image_list(batch)
    return model(batch[0] if pair else batch)


def count_images(batch: Any) -> int:
    """Images in a batch: a tensor's first dimension, an image list's length, else of the first element."""
    if isinstance(batch, Tensor):
        return batch.shape[0] if batch.dim() else 0
    if isinstance(batch, dict) and batch:
        return count_images(next(iter(batch.values())))
    if isinstance(batch, tuple | list) and batch:
        return len(batch) if _is_image_list(batch) else count_images(batch[0])
    raise BnrecalError(
        f"batches: cannot count the images of a {type(batch).__name__}; give tensors, image lists, or "
        "tuples or dicts that begin with one"
    )


def first_images(batch: Any, n: int) -> Any:
    """The batch cut to its first n images, in all its parts that have as many entries as images."""
    return _cut(batch, count_images(batch), n)


def _cut(part: Any, size: int, n: int) -> Any:
    if isinstance(part, Tensor):
        return part[:n] if part.dim() and part.shape[0] == size else part
    if isinstance(part, dict):
        return {name: _cut(value, size, n) for name, value in part.items()}
    if isinstance(part, list) and len(part) == size and not (part and _is_batch_of(part[0], size)):
        return part[:n]
    if isinstance(part, tuple | list):
        parts = [_cut(value, size, n) for value in part]
        return parts if isinstance(part, list) else tuple(parts)
    return part


def _is_batch_of(part: Any, size: int) -> bool:
    """Whether this entry of a list is itself a batch (of `size` images) rather than one image."""
    return isinstance(part, Tensor) and part.dim() != 3 and part.dim() > 0 and part.shape[0] == size


def _is_image_list(batch: Any) -> bool:
    return bool(batch) and all(isinstance(item, Tensor) and item.dim() == 3 for item in batch)


def exactly(batches: Iterable[Any], n_samples: int | None) -> Iterator[tuple[int, Any]]:
    """(images, batch) until exactly `n_samples` images are read, the last batch cut to fit.

    Raises BnrecalError if the batches end before. Batches without images are passed over.
    """
    read = 0
    for batch in batches:
        n = count_images(batch)
        if n_samples is not None and read + n > n_samples:
            n = n_samples - read
            batch = first_images(batch, n)
        if n:
            yield n, batch
        read += n
        if read == n_samples:
            return
    if n_samples is not None:
        raise BnrecalError(f"n_samples={n_samples}: the batches end after {read} images")
