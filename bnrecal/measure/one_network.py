"""One network, one setting: recalibrated, with its metric before and after and each layer's change."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bnrecal.data.prepared import Prepared
from bnrecal.errors import BnrecalError
from bnrecal.measure.images import CalibrationBatches, Parts, evaluation_parts
from bnrecal.measure.prepared import change, prepared_otherwise
from bnrecal.networks.network import Network
from bnrecal.networks.saved_weights import write_weights
from bnrecal.plan.grid import cells_of
from bnrecal.plan.opened import Opened
from bnrecal.recalibration.fold import folded
from bnrecal.recalibration.frozen import Frozen, frozen_layers, left_by_mode, reason_for
from bnrecal.recalibration.recalibrate import recalibrate
from bnrecal.recalibration.result import Recalibration
from bnrecal.recalibration.shift import Shift, shifts, stored
from bnrecal.report.analysis.uncertainty import Interval
from bnrecal.study.axes import MOMENTUM, STORED
from bnrecal.study.cells import Cell
from bnrecal.study.study import Study
from bnrecal.tasks.task import Task

FORMAT = "1"  # of the header's "bnrecal" entry


@dataclass(frozen=True)
class Single:
    """What recalibrating one network gave; `network` now holds the new statistics."""

    cell: Cell
    network: Network
    before: float  # the task's metric on its evaluation images
    after: float
    report: Recalibration
    recal_s: float  # of the report's seconds those not spent on reading images
    shifts: list[Shift]  # the largest first
    interval: Interval | None  # of after - before: paired, 95 %; None with too few evaluation images
    prepared: Prepared | None = None  # how the images would fit the network far better

    @property
    def verdict(self) -> str:
        """ "worse", "better", or "not told apart" where the interval holds 0 or there is none."""
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return "not told apart"
        return "worse" if self.after < self.before else "better"

    def write(self, path: Path, inputs: Study, force: bool) -> None:
        """The network's weights, and in the header how they were made (JSON under "bnrecal")."""
        write_weights(self.network.module, path, {"bnrecal": self.origin(inputs)}, force)

    def origin(self, inputs: Study) -> str:
        """JSON that says how these weights came about; no date and no place in it, so it can be compared."""
        from importlib.metadata import version

        grid = {"arch", "bs", "samples", "estimator", "momentum", "seed"}
        facts = {
            "format": FORMAT,
            "version": version("bnrecal"),
            "inputs": inputs.model_dump(mode="json", exclude=grid),
            "setting": self.cell.facts(),
            "before": self.before,
            "after": self.after,
        }
        return json.dumps(facts, sort_keys=True)

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.cell.facts(),
            "before": self.before,
            "after": self.after,
            "verdict": self.verdict,
            "interval": self.interval,
            "recal_s": self.recal_s,
            "n_passes": self.report.n_passes,
            "layers": [shift.to_dict() for shift in self.shifts],
            "left_alone": self.report.left_alone,
            "preparation": None if self.prepared is None else str(self.prepared),
        }


def check_single(study: Study) -> None:
    """Raise BnrecalError where the study asks for several of something."""
    for option, values in (
        *(("arch", study.arch), ("bs", study.bs), ("samples", study.samples)),
        *(("estimator", study.estimator), ("momentum", study.momentum)),
    ):
        if len(values) > 1:
            raise BnrecalError(f"--{option}: one at a time; choose one of {', '.join(map(str, values))}")
    if STORED in study.estimator:
        raise BnrecalError(f"--estimator: {STORED!r} re-estimates nothing; choose another")


def recalibrate_one(
    opened: Opened, device: torch.device, on_stage: Callable[[str], None], frozen: Frozen = "auto"
) -> Single:
    """Evaluate, recalibrate and evaluate again the one network this study names."""
    check_single(opened.study)
    (cell,) = cells_of(opened)
    assert cell.seed is not None
    assert cell.batch_size is not None
    task = opened.task
    on_stage(f"building {cell.arch}")
    for note in opened.notes:
        on_stage(f"note: {note}")
    network = opened.source.build(cell.arch)
    network.module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    old = stored(network.module)
    said = left_by_mode(network.module, frozen)
    if said:
        on_stage(f"note: {said}")
    on_stage(f"evaluating {task.n_evaluation:,} images with the statistics it has")
    before, old_parts = _metric(task, network, device)
    on_stage(f"{cell.estimator} over {cell.n_samples:,} images in batches of {cell.batch_size}")
    ids = task.order(cell.seed)[: cell.n_samples]
    batches = CalibrationBatches(task, device, ids, cell.batch_size)
    prepared = prepared_otherwise(task, network, device, ids, lambda: (before, task.evidence(old_parts)))
    if prepared is not None:
        on_stage(f"note: {prepared}")
    report = recalibrate(
        network.module,
        batches,
        estimator=cell.estimator,
        momentum=cell.momentum or MOMENTUM,
        forward=network.forward,
        n_samples=cell.n_samples,
        frozen=frozen_layers(network.module, frozen),  # said above, so that it need not warn
    )
    named, why = reason_for(()), reason_for(frozen)
    left = {name: why if said == named else said for name, said in report.left_alone.items()}
    report = replace(report, left_alone=left)
    on_stage(f"evaluating {task.n_evaluation:,} images with the new ones")
    after, new_parts = _metric(task, network, device)
    changed = shifts(network.module, old, report.statistics)
    interval = change(task.evidence(old_parts), task.evidence(new_parts))
    recal_s = report.seconds - batches.read_s
    return Single(cell, network, before, after, report, recal_s, changed, interval, prepared)


def _metric(task: Task, network: Network, device: torch.device) -> tuple[float, Parts]:
    parts = evaluation_parts(task, folded(network.module), network, device)
    return task.score_evaluation(parts), parts
