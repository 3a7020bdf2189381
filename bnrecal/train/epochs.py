"""Which images the steps of an epoch take, in which order, and how they come to the device."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bnrecal.data.draws import Int64s
from bnrecal.study.fitting import check_fits
from bnrecal.study.recipe import Recipe
from bnrecal.tasks.task import Task
from bnrecal.train.augment import Views, viewed, views
from bnrecal.train.order import epoch_order, labels_for
from bnrecal.train.ranks import ALONE, Ranks
from bnrecal.train.shards import check_shards, forwards, shards

_READ_AHEAD = 512  # images read at a time, about
_READ_AHEAD_BYTES = 2**25


@dataclass(frozen=True)
class Batches:
    """The batches of every epoch: all calibration images of a task, in a new order each time."""

    task: Task
    recipe: Recipe
    device: torch.device
    ids: Int64s  # of all calibration images, sorted
    labels: Int64s | None  # their classes, where batches are made by them
    ranks: Ranks = ALONE

    @classmethod
    def of(cls, task: Task, recipe: Recipe, device: torch.device, ranks: Ranks = ALONE) -> "Batches":
        """Raises BnrecalError for a recipe that does not fit the task, or a forward too small to share."""
        check_fits(recipe, task.name, task.metric, task.n_calibration)
        ids = np.sort(task.order(0))
        made = cls(task, recipe, device, ids, labels_for(task, recipe, ids), ranks)
        check_shards(set(np.diff(made._ends()).tolist()), recipe, ranks.n)
        return made

    @property
    def steps(self) -> int:
        """Steps of an epoch.

        Images that do not fill a last batch are left out, others in each epoch; without `drop_last` they are
        a smaller batch, as far as they are whole norm batches and two images at least.
        """
        return len(self._ends()) - 1

    def _ends(self) -> list[int]:
        """Where batches begin in an epoch's order, and where the last one ends."""
        n, size = len(self.ids), self.recipe.batch_size
        ends = list(range(0, n + 1, size))
        rest = n % size // (self.recipe.norm_batch or 1) * (self.recipe.norm_batch or 1)
        return ends if self.recipe.drop_last or rest < 2 else [*ends, ends[-1] + rest]

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(network input, places of the step's images among all) for each step of epoch 0, 1, ...

        The input has this process' images, those of one forward after another; the places are of all.
        """
        order = epoch_order(self.recipe.seed, epoch, len(self.ids), self.labels)
        seen = views(self.recipe.augment, self.recipe.seed, epoch, np.arange(len(self.ids)))
        ends = self._ends()
        together = self._read_together()
        for first in range(0, len(ends) - 1, together):
            chunk = ends[first : first + together + 1]
            places = torch.from_numpy(order[chunk[0] : chunk[-1]]).to(self.device)
            own = [order[self._own(start, stop)] for start, stop in itertools.pairwise(chunk)]
            images = torch.split(self._read(np.concatenate(own)), [len(at) for at in own])
            for at, here, (start, stop) in zip(own, images, itertools.pairwise(chunk), strict=True):
                of_step = slice(start - chunk[0], stop - chunk[0])
                yield self._input(here, None if seen is None else seen[at]), places[of_step]

    def _own(self, start: int, stop: int) -> Int64s:
        """Where in an epoch's order this process' images of the step from `start` to `stop` are."""
        cuts = [
            shards(whole, self.recipe, self.ranks.n)[self.ranks.rank]
            for whole in forwards(stop - start, self.recipe)
        ]
        return start + np.concatenate([np.arange(cut.start, cut.stop) for cut in cuts])

    def _read_together(self) -> int:
        """Batches that are read at once."""
        image_bytes = math.prod(self.task.input_shape)
        n_images = min(_READ_AHEAD, _READ_AHEAD_BYTES // image_bytes)
        return max(1, n_images // self.recipe.batch_size)

    def _read(self, at: Int64s) -> Tensor:
        """uint8 images on the device."""
        images = torch.from_numpy(self.task.calibration_images(self.ids[at]))
        if self.device.type != "cuda":
            return images
        return images.pin_memory().to(self.device, non_blocking=True)

    def _input(self, images: Tensor, seen: Views | None) -> Tensor:
        return self.task.to_input(viewed(images, seen)).to(memory_format=torch.channels_last)
