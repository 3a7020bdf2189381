"""How far work is: told to a callback of the caller's, or drawn as a bar."""

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any

from torch.utils.data import BatchSampler, DataLoader

from bnrecal.errors import BnrecalError
from bnrecal.recalibration.batches import count_images

Tell = Callable[[int, int | None], None]  # (done so far, in all or None where that is not known)
Progress = bool | Tell


@contextmanager
def following(progress: Progress, what: str, unit: str, here: bool = True) -> Iterator[Tell]:
    """What to call with (done, in all): the callback, a bar on stderr for True, nothing for False.

    The bar is rich's, in terminals and notebooks; where stderr is neither, its last state alone is
    written. It is drawn only where `here`: of several processes one draws. Raises BnrecalError if
    `progress` is neither a truth value nor callable.
    """
    if callable(progress):
        yield progress
    elif not isinstance(progress, bool):
        raise BnrecalError(f"progress={progress!r}: True, False, or a callable of (done, in all)")
    elif progress and here:
        with _bar(what, unit) as tell:
            yield tell
    else:
        yield lambda done, of: None


@contextmanager
def _bar(what: str, unit: str) -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None, count="")

        def tell(done: int, of: int | None) -> None:
            count = f"{done:,} {unit}" if of is None else f"{done:,} of {of:,} {unit}"
            bar.update(task, completed=done, total=of, count=count)

        yield tell


def n_images_in(batches: Iterable[Any], n_samples: int | None) -> int | None:
    """How many images will be read, where that can be told without reading any."""
    if n_samples is not None:
        return n_samples
    if isinstance(batches, list | tuple):
        return sum(map(count_images, batches))
    sampler = batches.batch_sampler if isinstance(batches, DataLoader) else None
    if not isinstance(sampler, BatchSampler) or not isinstance(sampler.sampler, Sized):
        return None
    n = len(sampler.sampler)
    return n - n % sampler.batch_size if sampler.drop_last else n
