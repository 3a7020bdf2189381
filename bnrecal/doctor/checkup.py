"""The doctor for a network and images that a study names."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bnrecal.doctor.diagnose import diagnose
from bnrecal.doctor.finding import Diagnosis
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
    """Diagnose the one network this study names, on its first calibration and evaluation images.

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
    return diagnose(
        network.module,
        CalibrationBatches(task, device, ids, cell.batch_size),
        evaluation=_EvaluationImages(task, device, min(cell.n_samples, task.n_evaluation), cell.batch_size),
        evaluate=_scored(task, network),
        forward=network.forward,
        n_samples=cell.n_samples,
        frozen=kept,
        normalisation=normalisation_of(task),
        on_check=lambda name: on_stage(f"checking {name}"),
    )


def _scored(task: Task, network: Network) -> Callable[[nn.Module, Iterable[Any]], float]:
    """The task's metric of any batches of the evaluation images, read from the first one on."""

    def evaluate(model: nn.Module, batches: Iterable[Any]) -> float:
        parts, read = [], 0
        for batch in batches:
            parts.append((read, network.predict(network.forward(model, batch))))
            read += len(batch)
        return task.score_evaluation(parts, read)

    return evaluate


class _EvaluationImages:
    """The first n evaluation images in batches, read anew at each iteration."""

    def __init__(self, task: Task, device: torch.device, n: int, batch_size: int) -> None:
        self.task, self.device, self.n, self.batch_size = task, device, n, batch_size

    def __iter__(self) -> Iterator[Tensor]:
        for start, stop in chunks(0, self.n, self.batch_size, read_ahead(self.task)):
            images = to_input(self.task, self.task.evaluation_images(start, stop), self.device)
            yield from torch.split(images, self.batch_size)
