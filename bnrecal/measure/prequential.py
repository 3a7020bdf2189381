"""The update metric: each batch predicted with the statistics as they stood right after it.

Predictions are made for several batches at once (see recalibration/grouped.py), which changes no figure.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bnrecal.measure.images import FORWARD_IMAGES, ForwardSize, Parts
from bnrecal.networks.network import Network
from bnrecal.networks.predictions import joined_outputs
from bnrecal.recalibration.grouped import GroupedEvaluation, NotByImageError
from bnrecal.recalibration.statistics import Statistics
from bnrecal.tasks.task import Int64s, Task

After = tuple[Tensor, Statistics]  # a batch, and the statistics right after it


class Prequential:
    """Predicts the batches of a pass in order and scores them all, as often as asked.

    `model` is a copy of the network in eval mode whose statistics may be written over: it takes batches
    one by one where they cannot be predicted together.
    """

    def __init__(self, network: Network, model: nn.Module, size: ForwardSize) -> None:
        self.network, self.model, self.size = network, model, size
        self.parts: Parts = []
        self._together = (
            GroupedEvaluation(copy.deepcopy(network.module), network.forward)
            if GroupedEvaluation.can_serve(network.module)
            else None
        )

    def predict(self, start: int, after: Sequence[After]) -> None:
        """Predict consecutive batches, the first of which begins at image `start` of the order."""
        found = self.size.run(lambda at_once: self._outputs(after, at_once))
        self.parts.append((start, self.network.predict(found)))

    def score(self, task: Task, ids: Int64s) -> float:
        """The update metric over the images `ids`, which are those predicted so far."""
        return task.score_calibration(ids, self.parts)

    def _outputs(self, after: Sequence[After], at_once: int) -> Any:
        if at_once < FORWARD_IMAGES:  # memory ran out: a batch may be too large by itself
            after = [(part, known) for batch, known in after for part in torch.split(batch, at_once)]
        return joined_outputs([self._output(group) for group in _grouped(after, at_once)])

    @torch.inference_mode()
    def _output(self, group: Sequence[After]) -> Any:
        """The network's outputs for some batches, each under its own statistics."""
        if self._together is not None:
            sizes = [(len(batch), known) for batch, known in group]
            try:
                return self._together.run(torch.cat([batch for batch, _ in group]), sizes)
            except NotByImageError:  # a BatchNorm that sees something else than images: one by one
                self._together = None
        outputs = []
        for batch, known in group:
            known.write_to(self.model)
            outputs.append(self.network.forward(self.model, batch))
        return joined_outputs(outputs)


def _grouped(after: Sequence[After], at_once: int) -> Iterator[list[After]]:
    """Consecutive batches together up to `at_once` images, at least one batch.

    All of a group have statistics of the same layers: a batch that is the first to reach one begins anew.
    """
    group: list[After] = []
    for item in after:
        full = sum(len(batch) for batch, _ in group) + len(item[0]) > at_once
        if group and (full or item[1].layers != group[0][1].layers):
            yield group
            group = []
        group.append(item)
    if group:
        yield group
