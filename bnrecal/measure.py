"""One pass: a network walked over a task's calibration images, measured at each sample count.

In one walk over the images, and at each sample count of the pass:

    update pass -> statistics -> update metric: each batch predicted with the statistics as they
                                 stood right after it (prequential), scored over the pass so far
                              -> eval metric: the evaluation images with the final statistics

The update pass runs at the cell's own batch size and is timed alone. Predictions for the update
metric are made for several batches at once (see recalibration/grouped.py), which changes no figure.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from bnrecal.device import now_s
from bnrecal.errors import BnrecalError
from bnrecal.networks.network import Network
from bnrecal.recalibration.estimators import make_estimator
from bnrecal.recalibration.exact import exact_statistics
from bnrecal.recalibration.fold import folded
from bnrecal.recalibration.grouped import GroupedEvaluation, NotByImageError
from bnrecal.recalibration.statistics import Statistics
from bnrecal.recalibration.walk import Walk
from bnrecal.study import MOMENTUM, Cell, Pass
from bnrecal.tasks.task import Int64s, Task

READ_AHEAD = 512  # images read and predicted at a time, about; fewer if they are large
READ_AHEAD_BYTES = 2**27  # of float32 input in one such reading
FORWARD_IMAGES = 64  # images in one evaluation forward: small enough for the processor's cache

OnImages = Callable[[int], None]  # told how many calibration images were just done
Parts = list[tuple[int, Any]]  # (position of the first image, predictions)


@dataclass(frozen=True)
class Measured:
    """What one cell gave; times in seconds, as bnrecal/store.py's columns define them."""

    cell: Cell
    update: float | None  # None for `exact`, which has no such pass, and where it was not asked for
    eval: float
    recal_s: float
    update_s: float
    eval_s: float
    total_s: float
    evidence: Mapping[str, NDArray[Any]]  # of `eval`, image by image: see tasks/task.py


def measure(
    todo: Pass,
    task: Task,
    network: Network,
    device: torch.device,
    on_images: OnImages,
    update_metric: bool = True,
) -> Iterator[Measured]:
    """Yield one `Measured` per cell of the pass, as soon as it is known.

    Without `update_metric` no calibration image is predicted, and `update` is None.
    """
    started = now_s(device)
    ids = task.order(todo.first.seed)[: todo.n_samples]
    bench = _Bench(task, network, device)
    setup_s = now_s(device) - started
    if todo.first.estimator == "exact":
        yield bench.settle_exactly(todo.first, ids, setup_s, on_images)
        return
    estimator = make_estimator(todo.first.estimator, todo.first.momentum or MOMENTUM)
    with Walk(bench.module, estimator, network.forward) as walk:
        done = 0
        for cell in todo.cells:
            for start, stop in _chunks(done, cell.n_samples, cell.batch_size, bench.read_ahead):
                bench.advance(walk, start, ids[start:stop], cell.batch_size, update_metric)
                on_images(stop - start)
            done = cell.n_samples
            yield bench.settle(cell, walk.statistics(), ids[:done], setup_s)


def _chunks(start: int, stop: int, batch_size: int, about: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges that cover start..stop, `about` so long, of whole batches but for the last."""
    size = max(1, about // batch_size) * batch_size
    for at in range(start, stop, size):
        yield at, min(at + size, stop)


class _Bench:
    """A network on its device, with what the pass has gathered so far."""

    def __init__(self, task: Task, network: Network, device: torch.device) -> None:
        self.task, self.predict, self.forward, self.device = task, network.predict, network.forward, device
        self.read_ahead = max(1, min(READ_AHEAD, READ_AHEAD_BYTES // (4 * math.prod(task.input_shape))))
        self.module = network.module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.for_updates = (
            GroupedEvaluation(copy.deepcopy(self.module), self.forward)
            if GroupedEvaluation.can_serve(self.module)
            else None
        )
        self.model_to_evaluate = copy.deepcopy(self.module).eval()
        self.parts: Parts = []
        self.read_s = self.recal_s = self.predict_s = 0.0

    def advance(self, walk: Walk, start: int, ids: Int64s, batch_size: int, predict: bool) -> None:
        """Take the images `ids`, which stand at `start` in the order, into statistics and predictions."""
        t0 = now_s(self.device)
        batches = torch.split(self.to_input(self.task.calibration_images(ids)), batch_size)
        t1 = now_s(self.device)
        after: list[tuple[Tensor, Statistics]] = []
        for batch in batches:
            walk.step(batch)
            if predict:
                after.append((batch, walk.statistics()))
        t2 = now_s(self.device)
        if predict:
            outputs = [self._output_under(group) for group in _grouped(after)]
            self.parts.append((start, self.predict(_joined(outputs))))
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
        evidence = self.task.evidence(predicted)
        return Measured(cell, update, evaluated, self.recal_s, update_s, eval_s, total_s, evidence)

    def settle_exactly(self, cell: Cell, ids: Int64s, setup_s: float, on_images: OnImages) -> Measured:
        """Walk the images as often as `exact` needs, reading them anew each time; then evaluate."""
        batches = _Rereadable(self, ids, cell.batch_size)
        t0 = now_s(self.device)
        final, _ = exact_statistics(self.module, batches, cell.n_samples, self.forward)
        t1 = now_s(self.device)
        on_images(cell.n_samples)
        predicted = self._evaluate(final)
        evaluated = self.task.score_evaluation(predicted)
        eval_s = now_s(self.device) - t1
        recal_s = t1 - t0 - batches.read_s
        total_s = setup_s + t1 - t0 + eval_s
        evidence = self.task.evidence(predicted)
        return Measured(cell, None, evaluated, recal_s, 0.0, eval_s, total_s, evidence)

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
        return _joined(outputs)

    @torch.inference_mode()
    def _evaluate(self, final: Statistics) -> Parts:
        """Predictions for the evaluation images with these statistics."""
        final.write_to(self.model_to_evaluate)
        model = folded(self.model_to_evaluate)
        parts: Parts = []
        n = self.task.n_evaluation
        for start in range(0, n, self.read_ahead):
            images = self.task.evaluation_images(start, min(start + self.read_ahead, n))
            outputs = [self.forward(model, x) for x in torch.split(self.to_input(images), FORWARD_IMAGES)]
            parts.append((start, self.predict(_joined(outputs))))
        return parts

    def to_input(self, images: Any) -> Tensor:
        tensor = torch.from_numpy(images)
        if self.device.type == "cuda":
            tensor = tensor.pin_memory().to(self.device, non_blocking=True)
        return self.task.to_input(tensor).to(memory_format=torch.channels_last)


@dataclass
class _Rereadable:
    """Batches of the images `ids`, read anew at each iteration; `read_s` is what reading took."""

    bench: _Bench
    ids: Int64s
    batch_size: int
    read_s: float = 0.0

    def __iter__(self) -> Iterator[Tensor]:
        for start, stop in _chunks(0, len(self.ids), self.batch_size, self.bench.read_ahead):
            started = now_s(self.bench.device)
            images = self.bench.task.calibration_images(self.ids[start:stop])
            batches = torch.split(self.bench.to_input(images), self.batch_size)
            self.read_s += now_s(self.bench.device) - started
            yield from batches


def _joined(outputs: Sequence[Any]) -> Any:
    """Outputs for consecutive images as one: tensors along their first dimension, lists one after another.

    Raises BnrecalError for anything else; a network's `forward` may bring it into such a form.
    """
    if all(isinstance(output, Tensor) for output in outputs):
        return torch.cat(list(outputs))
    if all(isinstance(output, list) for output in outputs):
        return [item for output in outputs for item in output]
    kind = type(outputs[0]).__name__
    raise BnrecalError(
        f"the network gives a {kind} for a batch; needs a tensor, or a list with an entry an image"
    )


def _grouped(after: list[tuple[Tensor, Statistics]]) -> Iterator[list[tuple[Tensor, Statistics]]]:
    """Consecutive batches together up to about FORWARD_IMAGES images, at least one batch."""
    group: list[tuple[Tensor, Statistics]] = []
    for item in after:
        if group and sum(len(batch) for batch, _ in group) + len(item[0]) > FORWARD_IMAGES:
            yield group
            group = []
        group.append(item)
    if group:
        yield group
