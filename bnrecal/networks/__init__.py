"""Network sources: who names architectures and builds them. Nothing here imports torch."""

from typing import TYPE_CHECKING

from bnrecal.networks.embedded import EmbeddedSupernet
from bnrecal.networks.network import NetworkSource
from bnrecal.study import Inputs

if TYPE_CHECKING:
    from bnrecal.tasks.task import Task


def of(inputs: Inputs, task: "Task") -> NetworkSource:
    """The source these inputs name, for networks that predict what `task` scores."""
    return get()


def get() -> NetworkSource:
    """The source of the default study's networks."""
    return EmbeddedSupernet()
