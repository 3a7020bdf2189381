"""Several processes, each with its own batches, ending with the same statistics.

The result is that of one process that reads all batches: each batch is normalised by itself, also in
a SyncBatchNorm, and goes into the estimate with its own count. Means of per-process means appear
nowhere, so shards may differ in size and may be empty. A rule that depends on order (ema) takes the
batches in turn: the first of every process in rank order, then the second, and so on.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed

from bnrecal.errors import BnrecalError
from bnrecal.recalibration.estimators import Estimator, Moments, State
from bnrecal.recalibration.statistics import Statistics
from bnrecal.recalibration.walk import Walk


def n_processes() -> int:
    """Processes that recalibrate together: torch.distributed's world, or 1 without it."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def walked(walk: Walk, steps: Callable[[], None]) -> Statistics:
    """Run `steps`, which drive the walk, and return the statistics of all processes' batches.

    If a process fails, all of them raise: nobody waits for a result that never comes.
    """
    if n_processes() == 1:
        steps()
        if not walk.n_updates:
            raise BnrecalError("batches: empty; at least one batch of images is needed")
        return walk.statistics()
    by_order = not hasattr(walk.estimator, "merge")
    if by_order:
        walk.record = []
    error: BnrecalError | None = None
    try:
        steps()
    except BnrecalError as raised:
        error = raised
    mine = walk.record if by_order else walk.states()
    gathered: list[Any] = [None] * n_processes()
    message = None if error is None else str(error)
    distributed.all_gather_object(gathered, (message, _on_cpu(mine), walk.n_updates))
    if error is not None:
        raise error
    for rank, (problem, _, _) in enumerate(gathered):
        if problem is not None:
            raise BnrecalError(f"process {rank}: {problem}")
    parts = [part for _, part, _ in gathered]
    states = _replayed(walk.estimator, parts) if by_order else _merged(walk.estimator, parts)
    return _statistics(walk, states, sum(n for _, _, n in gathered))


def _merged(estimator: Any, parts: list[dict[str, State]]) -> dict[str, State]:
    merged: dict[str, State] = {}
    for part in parts:
        for name, state in part.items():
            merged[name] = estimator.merge(merged[name], state) if name in merged else state
    return merged


def _replayed(estimator: Estimator, records: list[list[dict[str, Moments]]]) -> dict[str, State]:
    states: dict[str, State] = {}
    for t in range(max(map(len, records))):
        for record in records:
            for name, moments in record[t].items() if t < len(record) else ():
                if name not in states:
                    zero = torch.zeros_like(moments.mean)
                    states[name] = estimator.start(zero, zero + 1)
                states[name] = estimator.update(states[name], moments)
    return states


def _statistics(walk: Walk, states: dict[str, State], n_updates: int) -> Statistics:
    if not states:
        raise BnrecalError("batches: empty in every process; at least one batch of images is needed")
    sizes = tuple(state[0].numel() for state in states.values())
    joined = tuple(torch.cat(parts) for parts in zip(*states.values(), strict=True))
    mean, var = walk.estimator.compute(joined)
    device = walk.layers[0].running_mean.device
    return Statistics(tuple(states), sizes, mean.to(device), var.to(device), n_updates)


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, Moments):
        return Moments(*map(_on_cpu, (value.count, value.mean, value.var)))
    if isinstance(value, dict):
        return {name: _on_cpu(item) for name, item in value.items()}
    return type(value)(map(_on_cpu, value))
