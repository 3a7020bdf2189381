"""The doctor for a network and images that a study names."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bnrecal.data.draws import Int64s, permutation, stream_key
from bnrecal.doctor.chance import Scored
from bnrecal.doctor.diagnose import examine
from bnrecal.doctor.finding import Diagnosis
from bnrecal.doctor.patient import Patient
from bnrecal.measure.images import CalibrationBatches, chunks, read_ahead, to_input
from bnrecal.measure.preparation import normalisation_of
from bnrecal.networks.network import Network
from bnrecal.plan.grid import cells_of
from bnrecal.plan.opened import Opened
from bnrecal.recalibration.frozen import Frozen, frozen_layers
from bnrecal.tasks.task import Task


def diagnose_one(
    opened: Opened, device: torch.device, on_stage: Callable[[str], None], frozen: Frozen = "auto"
) -> Diagnosis:
    """Diagnose the one network this study names, on its first calibration images and evaluation images drawn.

    The metric is the task's, over the evaluation images that are read.
    """
    (cell,) = cells_of(opened)
    assert cell.seed is not None
    assert cell.batch_size is not None
    task = opened.task
    for note in opened.notes:
        on_stage(f"note: {note}")
    network = opened.source.build(cell.arch)
    network.module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    kept = frozen_layers(network.module, frozen)
    network.module.eval()
    ids = task.order(cell.seed)[: cell.n_samples]
    calibration = CalibrationBatches(task, device, ids, cell.batch_size)
    places = drawn(task, min(cell.n_samples, task.n_evaluation))
    evaluation = _EvaluationImages(task, device, places, cell.batch_size)

    def taken_in() -> Patient:
        return Patient(
            network.module,
            calibration,
            evaluation,
            _scored(task, network, places),
            network.forward,
            cell.n_samples,
            kept,
            normalisation_of(task),
            frozen_rule=frozen,
        )

    return examine(network.module, taken_in, lambda name: on_stage(f"checking {name}"))


def drawn(task: Task, n: int) -> Int64s:
    """Places of n evaluation images, in a fixed random order: a folder's first ones are of one class."""
    return permutation(stream_key("doctor-evaluation"), task.n_evaluation)[:n]


def _scored(task: Task, network: Network, places: Int64s) -> Callable[[nn.Module, Iterable[Any]], float]:
    """The task's metric of any batches of the evaluation images at `places`, from the first one on."""

    def evaluate(model: nn.Module, batches: Iterable[Any]) -> float:
        parts, read = [], 0
        for batch in batches:
            parts.append((read, network.predict(network.forward(model, batch))))
            read += len(batch)
        of = places[:read]
        return Scored(task.score_evaluation(parts, of), functools.cache(lambda: task.evidence(parts, of)))

    return evaluate


class _EvaluationImages:
    """The evaluation images at `places` in batches, read anew at each iteration."""

    def __init__(self, task: Task, device: torch.device, places: Int64s, batch_size: int) -> None:
        self.task, self.device, self.places, self.batch_size = task, device, places, batch_size

    def __iter__(self) -> Iterator[Tensor]:
        for start, stop in chunks(0, len(self.places), self.batch_size, read_ahead(self.task)):
            images = self.task.evaluation_images_at(self.places[start:stop])
            yield from torch.split(to_input(self.task, images, self.device), self.batch_size)
