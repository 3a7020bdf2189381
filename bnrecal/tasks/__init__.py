"""Tasks: which images calibrate, which evaluate, and what a prediction is worth.

`of` opens every task by name. Nothing here needs torch before an image becomes a tensor.
"""

from bnrecal.errors import unknown_choice
from bnrecal.study.inputs import Inputs
from bnrecal.tasks.garments import Garments
from bnrecal.tasks.opening import OPENERS, check_places, check_unshaped
from bnrecal.tasks.task import Task

# The tasks that bring their images along: calibration and evaluation scenes.
SCENES = {"garments": (40960, 2048), "tiny": (256, 64)}
NAMES = (*SCENES, *OPENERS)


def of(inputs: Inputs) -> Task:
    """The task these inputs name, its data found; raises BnrecalError for what is not there."""
    if inputs.task in SCENES:
        check_unshaped(inputs)
        return Garments(inputs.task, *SCENES[inputs.task])
    if inputs.task not in OPENERS:
        raise unknown_choice("task", inputs.task, NAMES, "--task")
    opened, _, taken = OPENERS[inputs.task]
    check_places(inputs, taken)
    return opened(inputs)


def metric_of(name: str) -> str:
    """ "map50" or "top1", without opening the task."""
    return OPENERS[name][1] if name in OPENERS else "map50"


def get(name: str) -> Task:
    """The task of this name that brings its images along."""
    return of(Inputs(task=name))
