"""Several processes, each with its own batches, ending with the same statistics.

The result is that of one process that reads all batches: each batch is normalised by itself, also in
a SyncBatchNorm, and goes into the estimate with its own count. Means of per-process means appear
nowhere, so shards may differ in size and may be empty. A rule that depends on order (ema) takes the
batches in turn: the first of every process in rank order, then the second, and so on; for that each
process keeps the moments of its batches until the end.

Every process of the group must take part.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from bnrecal.errors import BnrecalError
from bnrecal.recalibration.estimators import Estimator, Moments, State
from bnrecal.recalibration.states import side_by_side, statistics_of
from bnrecal.recalibration.statistics import Statistics
from bnrecal.recalibration.walk import Walk

Result = TypeVar("Result")
Record = list[list[dict[str, Moments]]]  # (batches)(calls) of the moments of the layers called


def n_processes() -> int:
    """Processes that recalibrate together: torch.distributed's world, or 1 without it."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this process is the one that speaks for all."""
    return n_processes() == 1 or distributed.get_rank() == 0


def together(work: Callable[[], Result]) -> list[Result]:
    """What `work` gives in every process, by rank. If it fails in one, all raise: nobody waits."""
    if n_processes() == 1:
        return [work()]
    result: Result | None = None
    error: Exception | None = None
    try:
        result = work()
    except Exception as raised:
        error = raised
    gathered: list[Any] = [None] * n_processes()
    message = None if error is None else str(error) or type(error).__name__
    distributed.all_gather_object(gathered, (message, result))
    if error is not None:
        raise error
    for rank, (problem, _) in enumerate(gathered):
        if problem is not None:
            raise BnrecalError(f"process {rank}: {problem}")
    return [found for _, found in gathered]


def walked(walk: Walk, steps: Callable[[], None]) -> Statistics:
    """Run `steps`, which drive the walk, and return the statistics of all processes' batches."""
    if n_processes() == 1:
        steps()
        if not walk.n_updates:
            raise BnrecalError("batches: empty; at least one batch of images is needed")
        return walk.statistics()
    by_order = not hasattr(walk.estimator, "merge")
    if by_order:
        walk.record = []

    def work() -> Any:
        steps()
        mine = walk.record if by_order else walk.states()
        return _on_cpu(mine), walk.n_updates, walk.tracked()

    gathered = together(work)
    if not sum(n for _, n, _ in gathered):
        raise BnrecalError("batches: empty in every process; at least one batch of images is needed")
    parts = [part for part, _, _ in gathered]
    states = _replayed(walk.estimator, parts) if by_order else _merged(walk.estimator, parts)
    tracked: Counter[str] = Counter()
    for _, _, counts in gathered:
        tracked.update(counts)
    sizes = {name: state[0].numel() for name, state in states.items()}
    device = walk.layers[0].running_mean.device
    n_updates = sum(n for _, n, _ in gathered)
    return statistics_of(walk.estimator, sizes, side_by_side(states.values()), n_updates, tracked, device)


def _merged(estimator: Any, parts: list[dict[str, State]]) -> dict[str, State]:
    merged: dict[str, State] = {}
    for part in parts:
        for name, state in part.items():
            merged[name] = estimator.merge(merged[name], state) if name in merged else state
    return merged


def _replayed(estimator: Estimator, records: list[Record]) -> dict[str, State]:
    states: dict[str, State] = {}
    for t in range(max(map(len, records))):
        for record in records:
            for call in record[t] if t < len(record) else ():
                for name, moments in call.items():
                    if name not in states:
                        zero = torch.zeros_like(moments.mean)
                        states[name] = estimator.start(zero, zero + 1)
                    states[name] = estimator.update(states[name], moments)
    return states


def _on_cpu(value: Any) -> Any:
    """Copies of their own: a view would be sent with the whole tensor it looks into."""
    if isinstance(value, Tensor):
        return value.cpu().clone()
    if isinstance(value, Moments):
        return Moments(*map(_on_cpu, (value.count, value.mean, value.var)))
    if isinstance(value, dict):
        return {name: _on_cpu(item) for name, item in value.items()}
    return type(value)(map(_on_cpu, value))
