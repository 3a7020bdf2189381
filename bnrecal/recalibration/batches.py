"""What counts as a batch: how it is run, how many images it holds, how it is cut."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bnrecal.errors import BnrecalError

Forward = Callable[[nn.Module, Any], Any]


def call(model: nn.Module, batch: Any) -> Any:
    """The default way to run a batch: model(batch), or its first element if it is a tuple or list.

    A list of single images (channels, height, width), or of dicts, is handed over whole, as detection
    models take it. A mapping's entries are keywords where the model's forward has such parameters, as
    those of Hugging Face's models; entries it has none for (labels) are left out. Raises BnrecalError, naming
    the keys and `forward=`, where it has none and does not take the mapping itself.
    """
    if isinstance(batch, Mapping):
        return _call_by_keyword(model, batch)
    pair = isinstance(batch, tuple | list) and not _is_samples(batch)
    return model(batch[0] if pair else batch)


def _call_by_keyword(model: nn.Module, batch: Mapping[Any, Any]) -> Any:
    parameters = _parameters(model)
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    taken = {name for name, p in parameters.items() if p.kind in kinds}
    needed = {name for name in taken if parameters[name].default is inspect.Parameter.empty}
    given = {name: value for name, value in batch.items() if name in taken}
    if given and needed <= given.keys():
        return model(**given)
    try:
        return model(batch)
    except Exception as error:
        keys, names = ", ".join(map(str, batch)), ", ".join(parameters) or "nothing"
        raise BnrecalError(
            f"batches: dicts with the keys {keys}, and {type(model).__name__}'s forward takes {names}; give "
            f"forward=, such as forward=lambda model, batch: model(batch[{next(iter(batch), '')!r}])"
        ) from error


def _parameters(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    """Those of the model's forward; of the module inside a wrapper whose forward passes all on."""
    try:
        found = inspect.signature(model.forward).parameters
    except (TypeError, ValueError):
        return {}
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    inside = list(model.children())
    if found and all(p.kind in variable for p in found.values()) and len(inside) == 1:
        return _parameters(inside[0])
    return found


def count_images(batch: Any) -> int:
    """Images in a batch: a tensor's first dimension, a sample list's length, else of the first part.

    Raises BnrecalError for what cannot be counted, and for a list of a single 3-dimensional tensor,
    which may be one image or a batch of rows.
    """
    if isinstance(batch, list) and len(batch) == 1 and _is_samples(batch) and isinstance(batch[0], Tensor):
        if batch[0].shape[0] not in (1, 3, 4):  # no image has so many channels
            raise BnrecalError(
                f"batches: a list of one tensor of shape {tuple(batch[0].shape)} may be an image or a batch; "
                "give a batch as the tensor itself"
            )
        return 1
    return _count(batch)


def _count(batch: Any) -> int:
    if isinstance(batch, Tensor) and batch.dim():
        return batch.shape[0]
    if isinstance(batch, Mapping) and batch:
        return _count(next(iter(batch.values())))
    if isinstance(batch, tuple | list) and batch:
        return len(batch) if _is_samples(batch) else _count(batch[0])
    what = "a tensor without dimensions" if isinstance(batch, Tensor) else f"a {type(batch).__name__}"
    raise BnrecalError(
        f"batches: cannot count the images of {what}; give tensors, image lists, or tuples or dicts that "
        "begin with one"
    )


def first_images(batch: Any, n: int) -> Any:
    """The batch cut to its first n images, in all its parts that have as many entries as images."""
    return images_between(batch, 0, n)


def images_between(batch: Any, start: int, stop: int) -> Any:
    """The batch cut to its images start..stop-1, in all its parts that have as many entries as images."""
    size, where = count_images(batch), slice(start, stop)
    if isinstance(batch, tuple | list) and not _is_samples(batch):
        return _rebuilt(batch, [_cut(part, size, where) for part in batch])
    return _cut(batch, size, where)


def _cut(part: Any, size: int, where: slice) -> Any:
    if isinstance(part, Tensor):
        return part[where] if part.dim() and part.shape[0] == size else part
    if isinstance(part, Mapping):
        return {name: _cut(value, size, where) for name, value in part.items()}
    if isinstance(part, tuple | list) and len(part) == size:
        return _rebuilt(part, list(part[where])) if not hasattr(part, "_fields") else part
    return part


def joined(batches: Sequence[Any]) -> Any:
    """Batches of one structure as one batch; parts that do not go by image are the first batch's.

    Raises BnrecalError if images of different shapes would meet in one tensor.
    """
    first = batches[0]
    if len(batches) == 1:
        return first
    sizes = [count_images(batch) for batch in batches]
    if isinstance(first, tuple | list) and not _is_samples(first):
        return _rebuilt(first, [_join(parts, sizes) for parts in zip(*batches, strict=True)])
    return _join(batches, sizes)


def _join(parts: Sequence[Any], sizes: list[int]) -> Any:
    first = parts[0]
    if isinstance(first, Mapping):
        return {name: _join([part[name] for part in parts], sizes) for name in first}
    if isinstance(first, Tensor):
        if not all(part.dim() and len(part) == n for part, n in zip(parts, sizes, strict=True)):
            return first
        if len({part.shape[1:] for part in parts}) > 1:
            shapes = ", ".join(sorted({str(tuple(part.shape[1:])) for part in parts}))
            raise BnrecalError(f"batches: images of different shapes ({shapes}) cannot be put in one batch")
        return torch.cat(list(parts))
    by_image = isinstance(first, tuple | list) and not hasattr(first, "_fields")
    if by_image and all(len(part) == n for part, n in zip(parts, sizes, strict=True)):
        return _rebuilt(first, [item for part in parts for item in part])
    return first


def _rebuilt(like: Any, parts: list[Any]) -> Any:
    """The parts as the type of `like`, a named tuple included."""
    return type(like)(*parts) if hasattr(like, "_fields") else type(like)(parts)


def _is_samples(batch: Any) -> bool:
    """Whether a tuple or list holds an image, or a dict of one, per entry, rather than parts of a batch."""
    return bool(batch) and (
        all(isinstance(item, Tensor) and item.dim() == 3 for item in batch)
        or (isinstance(batch, list) and all(isinstance(item, dict) for item in batch))
    )


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
