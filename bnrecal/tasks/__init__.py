"""Tasks: which images calibrate, which evaluate, and what a prediction is worth.

`get` knows every task by name. Nothing here needs torch before an image becomes a tensor.
"""

from collections.abc import Callable

from bnrecal.errors import unknown_choice
from bnrecal.study import Inputs
from bnrecal.tasks.garments import Garments
from bnrecal.tasks.task import Task

TASKS: dict[str, Callable[[], Task]] = {
    "garments": lambda: Garments("garments", n_calibration=40960, n_evaluation=2048),
    "tiny": lambda: Garments("tiny", n_calibration=256, n_evaluation=64),
}


def of(inputs: Inputs) -> Task:
    """The task these inputs name, its data found; raises BnrecalError for what is not there."""
    return get(inputs.task)


def get(name: str) -> Task:
    """The task of this name; raises BnrecalError listing the names there are."""
    if name not in TASKS:
        raise unknown_choice("task", name, TASKS, "--task")
    return TASKS[name]()
