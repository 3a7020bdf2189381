"""One pass: a network walked over a task's calibration images, measured at each sample count.

In one walk over the images, and at each sample count of the pass:

    update pass -> statistics -> update metric: each batch predicted with the statistics as they
                                 stood right after it (prequential), scored over the pass so far
                              -> eval metric: the evaluation images with the final statistics

The update pass runs at the cell's own batch size and is timed alone. Predictions for the update
metric are made for several batches at once (see recalibration/grouped.py), which changes no figure.

Where memory runs out in an evaluation forward, fewer images are taken at a time and the row says how
many. The batches of the update pass are the experiment and are never made smaller.
"""

import copy
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from bnrecal.host.device import now_s
from bnrecal.measure.images import (
    FORWARD_IMAGES,
    CalibrationBatches,
    ForwardSize,
    Parts,
    chunks,
    evaluation_parts,
    read_ahead,
    to_input,
)
from bnrecal.networks.network import Network
from bnrecal.networks.predictions import joined_outputs
from bnrecal.recalibration.estimators import make_estimator
from bnrecal.recalibration.exact import exact_statistics
from bnrecal.recalibration.fold import folded
from bnrecal.recalibration.grouped import GroupedEvaluation, NotByImageError
from bnrecal.recalibration.statistics import Statistics
from bnrecal.recalibration.walk import Walk
from bnrecal.study.cells import MOMENTUM, STORED, Cell, Pass
from bnrecal.tasks.task import Int64s, Task

OnImages = Callable[[int], None]  # told how many calibration images were just done


@dataclass(frozen=True)
class Measured:
    """What one cell gave; times in seconds, as bnrecal/store/store.py's columns define them."""

    cell: Cell
    update: float | None  # None for `exact`, which has no such pass, and where it was not asked for
    eval: float
    recal_s: float
    update_s: float
    eval_s: float
    total_s: float
    evidence: Mapping[str, NDArray[Any]]  # of `eval`, image by image: see tasks/task.py
    evaluation_batch: int  # images in one evaluation forward


def measure(
    todo: Pass,
    task: Task,
    network: Network,
    device: torch.device,
    on_images: OnImages,
    update_metric: bool = True,
) -> Generator[Measured, None, None]:
    """Yield one `Measured` per cell of the pass, as soon as it is known.

    Without `update_metric` no calibration image is predicted, and `update` is None.
    """
    started = now_s(device)
    bench = _Bench(task, network, device)
    if todo.first.estimator == STORED:
        yield bench.settle_as_it_stands(todo.first, now_s(device) - started)
        return
    assert todo.first.seed is not None
    ids = task.order(todo.first.seed)[: todo.n_samples]
    setup_s = now_s(device) - started
    if todo.first.estimator == "exact":
        yield bench.settle_exactly(todo.first, ids, setup_s, on_images)
        return
    estimator = make_estimator(todo.first.estimator, todo.first.momentum or MOMENTUM)
    with Walk(bench.module, estimator, network.forward) as walk:
        done = 0
        for cell in todo.cells:
            assert cell.batch_size is not None
            for start, stop in chunks(done, cell.n_samples, cell.batch_size, bench.read_ahead):
                bench.advance(walk, start, ids[start:stop], cell.batch_size, update_metric)
                on_images(stop - start)
            done = cell.n_samples
            yield bench.settle(cell, walk.statistics(), ids[:done], setup_s)


class _Bench:
    """A network on its device, with what the pass has gathered so far."""

    def __init__(self, task: Task, network: Network, device: torch.device) -> None:
        self.task, self.network, self.device = task, network, device
        self.predict, self.forward = network.predict, network.forward
        self.read_ahead = read_ahead(task)
        self.module = network.module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.for_updates = (
            GroupedEvaluation(copy.deepcopy(self.module), self.forward)
            if GroupedEvaluation.can_serve(self.module)
            else None
        )
        self.model_to_evaluate = copy.deepcopy(self.module).eval()
        self.parts: Parts = []
        self.read_s = self.recal_s = self.predict_s = 0.0
        self.size = ForwardSize(device)

    def advance(self, walk: Walk, start: int, ids: Int64s, batch_size: int, predict: bool) -> None:
        """Take the images `ids`, which stand at `start` in the order, into statistics and predictions."""
        t0 = now_s(self.device)
        batches = torch.split(to_input(self.task, self.task.calibration_images(ids), self.device), batch_size)
        t1 = now_s(self.device)
        after: list[tuple[Tensor, Statistics]] = []
        for batch in batches:
            walk.step(batch)
            if predict:
                after.append((batch, walk.statistics()))
        t2 = now_s(self.device)
        if predict:
            found = self.size.run(lambda n: self._outputs_after(after, n))
            self.parts.append((start, self.predict(found)))
        t3 = now_s(self.device)
        self.read_s += t1 - t0
        self.recal_s += t2 - t1
        self.predict_s += t3 - t2

    def settle(self, cell: Cell, final: Statistics, ids: Int64s, setup_s: float) -> Measured:
        """Score the pass so far and evaluate the network with the statistics it has now."""
        t0 = now_s(self.device)
        update = self.task.score_calibration(ids, self.parts) if self.parts else None
        t1 = now_s(self.device)
        predicted = self._evaluate(final)
        evaluated = self.task.score_evaluation(predicted)
        t2 = now_s(self.device)
        update_s, eval_s = self.predict_s + t1 - t0, t2 - t1
        total_s = setup_s + self.read_s + self.recal_s + update_s + eval_s
        evidence, at_once = self.task.evidence(predicted), self.size.n_images
        return Measured(cell, update, evaluated, self.recal_s, update_s, eval_s, total_s, evidence, at_once)

    def settle_as_it_stands(self, cell: Cell, setup_s: float) -> Measured:
        """Evaluate the network with the statistics it came with."""
        t0 = now_s(self.device)
        predicted = self._predicted()
        evaluated = self.task.score_evaluation(predicted)
        eval_s = now_s(self.device) - t0
        evidence, at_once = self.task.evidence(predicted), self.size.n_images
        return Measured(cell, None, evaluated, 0.0, 0.0, eval_s, setup_s + eval_s, evidence, at_once)

    def settle_exactly(self, cell: Cell, ids: Int64s, setup_s: float, on_images: OnImages) -> Measured:
        """Walk the images as often as `exact` needs, reading them anew each time; then evaluate."""
        assert cell.batch_size is not None
        batches = CalibrationBatches(self.task, self.device, ids, cell.batch_size)
        t0 = now_s(self.device)
        final, _ = exact_statistics(self.module, batches, cell.n_samples, self.forward)
        t1 = now_s(self.device)
        on_images(cell.n_samples)
        predicted = self._evaluate(final)
        evaluated = self.task.score_evaluation(predicted)
        eval_s = now_s(self.device) - t1
        recal_s = t1 - t0 - batches.read_s
        total_s = setup_s + t1 - t0 + eval_s
        evidence, at_once = self.task.evidence(predicted), self.size.n_images
        return Measured(cell, None, evaluated, recal_s, 0.0, eval_s, total_s, evidence, at_once)

    def _outputs_after(self, after: list[tuple[Tensor, Statistics]], at_once: int) -> Any:
        """Each batch's outputs under the statistics right after it."""
        if at_once < FORWARD_IMAGES:  # memory ran out: a batch may be too large by itself
            after = [(part, final) for batch, final in after for part in torch.split(batch, at_once)]
        return joined_outputs([self._output_under(group) for group in _grouped(after, at_once)])

    @torch.inference_mode()
    def _output_under(self, group: list[tuple[Tensor, Statistics]]) -> Any:
        """The network's outputs for some batches, each under its own statistics."""
        if self.for_updates is not None:
            sizes = [(len(batch), statistics) for batch, statistics in group]
            try:
                return self.for_updates.run(torch.cat([batch for batch, _ in group]), sizes)
            except NotByImageError:  # a BatchNorm that sees something else than images: one by one
                self.for_updates = None
        outputs = []
        for batch, statistics in group:
            statistics.write_to(self.model_to_evaluate)
            outputs.append(self.forward(self.model_to_evaluate, batch))
        return joined_outputs(outputs)

    def _evaluate(self, final: Statistics) -> Parts:
        """Predictions for the evaluation images with these statistics."""
        final.write_to(self.model_to_evaluate)
        return self._predicted()

    def _predicted(self) -> Parts:
        model = folded(self.model_to_evaluate)
        return evaluation_parts(self.task, model, self.network, self.device, self.size, only_numbers=True)


def _grouped(
    after: list[tuple[Tensor, Statistics]], at_once: int
) -> Iterator[list[tuple[Tensor, Statistics]]]:
    """Consecutive batches together up to `at_once` images, at least one batch."""
    group: list[tuple[Tensor, Statistics]] = []
    for item in after:
        if group and sum(len(batch) for batch, _ in group) + len(item[0]) > at_once:
            yield group
            group = []
        group.append(item)
    if group:
        yield group
