"""A pass of architectures that begin alike: as a tree where they are chains, else one after another."""

from collections.abc import Iterator

import torch

from bnrecal.data.user_code import on_stderr
from bnrecal.errors import BnrecalError
from bnrecal.measure.measured import Measured
from bnrecal.measure.prefixes import grouped
from bnrecal.measure.recalibrated import OnImages, measure
from bnrecal.measure.together import measure_group
from bnrecal.networks.network import NetworkSource
from bnrecal.study.cells import Cell, Pass, SharedPass
from bnrecal.tasks.task import Task


def measure_shared(
    todo: SharedPass, task: Task, source: NetworkSource, device: torch.device, on_images: OnImages
) -> Iterator[tuple[Cell, Measured | BnrecalError]]:
    """Yield every cell with its figures, without the update metric, or with what it failed by."""
    groups, alone = grouped(todo.cells, source, len(todo.cells))
    following = on_stderr(next)  # what a link of the user's prints is no answer
    for group in groups:
        results = iter(measure_group(group, task, source, device, on_images))
        while (one := following(results, None)) is not None:
            yield one
    for cell in alone:
        try:
            network = source.build(cell.arch)
            (found,) = measure(Pass((cell,)), task, network, device, on_images, update_metric=False)
            yield cell, found
        except BnrecalError as error:
            yield cell, error
