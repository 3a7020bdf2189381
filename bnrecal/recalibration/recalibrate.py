"""The public way in: `recalibrate` and the scope `recalibrated`."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from bnrecal.errors import BnrecalError
from bnrecal.host.device import now_s
from bnrecal.recalibration.batches import Forward, call, exactly
from bnrecal.recalibration.estimators import Estimator, Pooled, make_estimator
from bnrecal.recalibration.exact import check_rereadable, exact_statistics
from bnrecal.recalibration.frozen import Frozen, left_by_mode
from bnrecal.recalibration.layers import Layer, find_layers, inner_of
from bnrecal.recalibration.lazy import check_initialised, initialised
from bnrecal.recalibration.merge import is_first, n_processes, together, walked
from bnrecal.recalibration.progress import Progress, Tell, following, n_images_in
from bnrecal.recalibration.result import Recalibration
from bnrecal.recalibration.scope import copies, put_back
from bnrecal.recalibration.shift import Pair
from bnrecal.recalibration.statistics import Statistics
from bnrecal.recalibration.walk import Walk


class FrozenWarning(UserWarning):
    """BatchNorms were left alone for their mode; whether that was meant, only the caller knows."""


def recalibrate(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    estimator: str | Estimator = "pooled",
    momentum: float = 0.1,
    n_samples: int | None = None,
    forward: Forward | None = None,
    reset: bool = True,
    snapshots: Iterable[int] = (),
    frozen: Frozen = "auto",
    progress: Progress = False,
) -> Recalibration:
    """Re-estimate the running statistics of every live BatchNorm of `model` from `batches`.

    With batch t giving n_t values per channel, mean mu_t and unbiased variance u_t, the buffers become

    - "ema": m <- (1 - a) m + a mu_t from mean 0, the same with u_t from variance 1; a = momentum
      (PyTorch's train mode);
    - "cumulative": the plain means over t of mu_t and u_t (torch.optim.swa_utils.update_bn);
    - "pooled": mean and unbiased variance of all values together (precise BN: Wu & Johnson,
      "Rethinking 'Batch' in BatchNorm", 2021, section 3), merged without cancellation;
    - "exact": pooled statistics of every layer's evaluation-time input, which do not depend on how
      images are split into batches; reads them several times.

    Inside, each live BatchNorm runs by batch, everything else as in evaluation. Frozen BatchNorms are left
    alone, as are layers no batch reaches: `left_alone` of the result says which and why.
    Afterwards the model differs in running_mean, running_var (unbiased) and num_batches_tracked (calls,
    as PyTorch counts them) of the re-estimated layers alone; after an error in nothing.
    Under torch.distributed every process calls this with its own batches, and all end with the same
    statistics (merge.py); a DistributedDataParallel model is taken by its inner module.

    Args:
        model: any module; its modes and device stay as they are.
        batches: tensors (images, ...), lists of images, tuples or dicts that begin with one.
        estimator: a name above, or an object with the methods of `Estimator`.
        momentum: of "ema" alone, PyTorch's convention, 0 < momentum <= 1.
        n_samples: read exactly so many images, cutting the last batch; None: all there are.
        forward: forward(model, batch); by default model(batch) or its first element.
        reset: False goes on from the statistics the model has ("ema", "cumulative").
        snapshots: image counts, each at the end of a batch, at which to keep the statistics as well.
        frozen: "auto": where some BatchNorms are in train mode and some in eval mode, those in eval
            mode, with a FrozenWarning; where all are in one mode, none. "by_mode": every one in eval
            mode. "none". Or names of BatchNorms, or of parts of the model that hold some.
        progress: True draws a bar on stderr; a callable is told (images read, images in all or None)
            after each batch. "exact" counts every pass, and does not know how many there will be.

    Raises:
        BnrecalError: no BatchNorm with running statistics, too few images, a batch with a single
            value per channel, NaN or infinity (batch and layer named), a model that raises, snapshots
            inside a batch, values out of range.

    >>> import torch
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    >>> images = torch.randn(64, 1, 8, 8)
    >>> report = recalibrate(model, images.split(16), n_samples=48)
    >>> report.layers, report.n_samples
    (('1',), 48)
    """
    forward = forward or call
    model = inner_of(model)  # processes are joined here; replicas would take their moments with them

    def prepared() -> tuple[frozenset[int], Iterable[Any]]:
        wanted = _check(n_samples, snapshots, estimator, reset)
        if estimator == "exact":
            check_rereadable(batches)
        ready = initialised(model, batches, forward)
        find_layers(model, frozen)
        return wanted, ready

    ready: list[tuple[frozenset[int], Iterable[Any]]] = []
    together(lambda: ready.append(prepared()))
    wanted, batches = ready[0]
    live, left_alone = find_layers(model, frozen)
    said = left_by_mode(model, frozen)
    if said:
        warnings.warn(said, FrozenWarning, stacklevel=2)
    device = next((b.device for b in model.buffers()), torch.device("cpu"))
    before = _held(live)
    started = now_s(device)
    with following(progress, "recalibrating", "images", here=is_first()) as tell:
        counter = _Counter(tell, None if estimator == "exact" else n_images_in(batches, n_samples))
        if estimator == "exact":
            final, n_passes = exact_statistics(model, batches, n_samples, forward, counter.add, frozen)
        else:
            rule = make_estimator(estimator, momentum) if isinstance(estimator, str) else estimator
            n_passes = 1
            with Walk(model, rule, forward, reset, frozen=frozen) as walk:
                final = walked(walk, lambda: _step_through(walk, batches, n_samples, wanted, counter))
    final.write_to(model)
    return Recalibration(
        counter.n_samples // n_passes,
        counter.n_batches // n_passes,
        n_passes,
        now_s(device) - started,
        final.layers,
        {**left_alone, **_not_reached(model, final.layers, left_alone)},
        final,
        counter.snapshots,
        {name: before[name] for name in final.layers},
    )


def _held(layers: Iterable[Layer]) -> dict[str, tuple[Pair, float]]:
    """Copies of these layers' statistics, and their eps."""
    return {
        layer.name: (
            (
                layer.running_mean.detach().to(torch.float64, copy=True),
                layer.running_var.detach().to(torch.float64, copy=True),
            ),
            layer.module.eps,
        )
        for layer in layers
    }


def _step_through(
    walk: Walk,
    batches: Iterable[Any],
    n_samples: int | None,
    wanted: frozenset[int],
    counter: "_Counter",
) -> None:
    """Walk exactly `n_samples` images, keeping the statistics at the wanted counts."""
    for n, batch in exactly(batches, n_samples):
        walk.step(batch)
        counter.add(n)
        if counter.n_samples in wanted:
            counter.snapshots[counter.n_samples] = walk.statistics()
        _check_passed(wanted, counter)
    _check_taken(wanted, counter)


def _not_reached(model: nn.Module, reached: Iterable[str], left_alone: Iterable[str]) -> dict[str, str]:
    """The BatchNorms that no batch has called, with that as the reason."""
    known = {*reached, *left_alone}
    norms = (name for name, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    return {name: "no batch reached it" for name in norms if name not in known}


@contextmanager
def recalibrated(model: nn.Module, batches: Iterable[Any], **settings: Any) -> Iterator[Recalibration]:
    """`recalibrate` for the length of a with-block; afterwards the old statistics are back.

    For weights that stand in the model only while it is evaluated (averages, a schedule-free
    optimiser's): put them in, evaluate inside this block, take them out again.

    >>> import torch
    >>> model = nn.BatchNorm2d(1)
    >>> with recalibrated(model, [torch.full((4, 1, 2, 2), 3.0)]) as report:
    ...     model.running_mean.item(), report.n_samples
    (3.0, 4)
    >>> model.running_mean.item()
    0.0
    """
    model = inner_of(model)
    check_initialised(model)
    layers, _ = find_layers(inner_of(model), settings.get("frozen", "auto"))
    before = copies(layers)
    try:
        yield recalibrate(model, batches, **settings)
    finally:
        put_back(layers, before)


@dataclass
class _Counter:
    tell: Tell
    of: int | None  # images in all
    n_samples: int = 0
    n_batches: int = 0
    snapshots: dict[int, Statistics] = field(default_factory=dict)

    def add(self, n: int) -> None:
        self.n_samples += n
        self.n_batches += 1
        self.tell(self.n_samples, self.of)


def _check(
    n_samples: int | None, snapshots: Iterable[int], estimator: str | Estimator, reset: bool
) -> frozenset[int]:
    """The wanted snapshots, if these settings go together."""
    wanted = frozenset(snapshots)
    if not all(isinstance(n, int) for n in (*wanted, n_samples or 0)):
        raise BnrecalError(f"n_samples={n_samples!r}, snapshots={sorted(wanted)!r}: whole numbers of images")
    if n_samples is not None and n_samples < 1:
        raise BnrecalError(f"n_samples={n_samples}: at least 1, or None for all images there are")
    if any(n < 1 or (n_samples is not None and n > n_samples) for n in wanted):
        raise BnrecalError(f"snapshots={sorted(wanted)}: valid are image counts from 1 to n_samples")
    if wanted and estimator == "exact":
        raise BnrecalError("snapshots: exact has none on the way, its statistics belong to one image set")
    if wanted and n_processes() > 1:
        raise BnrecalError("snapshots: not with several processes, whose counts differ")
    if not reset and estimator == "exact":
        Pooled().resume(torch.empty(0), torch.empty(0), 0)
    if not reset and n_processes() > 1:
        raise BnrecalError("reset=False: not with several processes; valid in one")
    return wanted


def _check_passed(wanted: frozenset[int], counter: _Counter) -> None:
    passed = sorted(n for n in wanted if n < counter.n_samples and n not in counter.snapshots)
    if passed:
        raise BnrecalError(
            f"snapshots: {passed[0]} images are not the end of a batch, one ends at {counter.n_samples}; "
            "choose multiples of the batch size"
        )


def _check_taken(wanted: frozenset[int], counter: _Counter) -> None:
    missing = sorted(wanted - set(counter.snapshots))
    if missing:
        raise BnrecalError(f"snapshots: {missing[0]} images are more than the {counter.n_samples} there are")
