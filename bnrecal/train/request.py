"""A training by a recipe file, as several processes are asked for it."""

from dataclasses import dataclass
from pathlib import Path

import torch

from bnrecal import networks, tasks
from bnrecal.errors import BnrecalError
from bnrecal.networks.network import NetworkSource
from bnrecal.study.inputs import Inputs
from bnrecal.study.recipe import Recipe
from bnrecal.train.folder import Trained
from bnrecal.train.loop import OnProgress, train
from bnrecal.train.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Request:
    """What `bnrecal train` trains, and where it leaves the weights. `arch` None: the only one there is."""

    recipe: Recipe
    inputs: Inputs
    arch: str | None
    out: Path

    def run(self, device: torch.device, on_progress: OnProgress, ranks: Ranks = ALONE) -> Trained:
        """Open images and network, and train; raises BnrecalError as both do."""
        task = tasks.of(self.inputs)
        source = networks.of(self.inputs, task)
        learner = source.learner(_arch(source, self.arch, self.recipe.sampling), self.recipe.seed)
        return train(self.recipe, task, learner, self.out, device, on_progress, ranks=ranks)


def _arch(source: NetworkSource, name: str | None, sampling: str) -> str | None:
    """The one architecture to train, None for a whole supernet."""
    if sampling != "none":
        if name is not None:
            raise BnrecalError(
                f"--arch: {name!r}: sampling {sampling} trains the whole supernet; leave it out"
            )
        return None
    if name is None and len(source.names) > 1:
        raise BnrecalError(
            f"--arch: a recipe without sampling trains one architecture of {len(source.names)}; "
            f"give one of {', '.join(source.names[:12])}"
        )
    return name or str(source.names[0])
