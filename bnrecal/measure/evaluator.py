"""The end of every cell: the evaluation images, predicted with the statistics the cell came to."""

import copy

import torch

from bnrecal.measure.images import ForwardSize, Parts, evaluation_parts
from bnrecal.measure.measured import Measured, measured
from bnrecal.measure.stopwatch import Stopwatch
from bnrecal.networks.network import Network
from bnrecal.recalibration.fold import folded
from bnrecal.recalibration.statistics import Statistics
from bnrecal.study.cells import Cell
from bnrecal.tasks.task import Task


class Evaluator:
    """A copy of a network on the device, to be given one set of statistics after another.

    `size` says how many images go through it at a time, and remembers if memory ran out.
    """

    def __init__(self, task: Task, network: Network, device: torch.device, size: ForwardSize) -> None:
        self.task, self.network, self.device, self.size = task, network, device, size
        self.model = copy.deepcopy(network.module).eval()

    def settle(
        self, cell: Cell, clock: Stopwatch, final: Statistics | None = None, update: float | None = None
    ) -> Measured:
        """The cell's figures with the statistics `final`, or with those the network came with.

        `clock` shows what the cell took so far; the evaluation is added.
        """
        with clock.part("eval"):
            predicted = self._predicted(final)
            evaluated = self.task.score_evaluation(predicted)
        evidence = self.task.evidence(predicted)
        return measured(cell, update, evaluated, clock.seconds, evidence, self.size.n_images)

    def _predicted(self, final: Statistics | None) -> Parts:
        if final is not None:
            final.write_to(self.model)
        model = folded(self.model)
        return evaluation_parts(self.task, model, self.network, self.device, self.size, only_numbers=True)
