"""One training, and the source of the network it left, whose files lie in a folder of their own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from bnrecal import networks
from bnrecal.errors import BnrecalError
from bnrecal.measure.images import evaluation_parts
from bnrecal.networks.head import detections
from bnrecal.networks.learner import Learner
from bnrecal.networks.network import Network, NetworkSource
from bnrecal.networks.predictions import class_indices
from bnrecal.study.cells import Training
from bnrecal.study.inputs import Inputs
from bnrecal.tasks.task import Task
from bnrecal.train import folder as folders
from bnrecal.train.folder import Trained
from bnrecal.train.loop import OnProgress, Progress, identity, train
from bnrecal.train.norms import evaluation_conversion


def train_one(
    training: Training,
    task: Task,
    source: NetworkSource,
    folder: Path,
    device: torch.device,
    on_progress: OnProgress,
    check: Callable[[], None],
    on_note: Callable[[str], None],
) -> Trained:
    """Train in `folder`, from where it was left; raises BnrecalError where images or network are others.

    What is of no use there is moved aside, which `on_note` is told. The log has the task's metric on its
    evaluation images after each epoch, with the statistics it keeps.
    """
    learner = source.learner(training.arch, training.recipe.seed)
    for what, found, wanted in (
        ("data", task.data_digest(), training.data_digest),
        ("network", learner.digest, training.network_digest),
    ):
        if found != wanted:
            raise BnrecalError(
                f"{what} here have digest {found}, the training was planned for {wanted}: they changed, or "
                "this machine has others"
            )
    moved = moved_aside(training, folder)
    if moved is not None:
        on_note(moved)
    adopted = _adopted(training, folder)
    if adopted is not None:
        return adopted

    def progressed(now: Progress) -> None:
        if now.note is not None:
            on_note(now.note)
        on_progress(now)

    evaluate = _metric_of(task, learner, device)
    return train(training.recipe, task, learner, folder, device, progressed, check, evaluate)


def _adopted(training: Training, folder: Path) -> Trained | None:
    """The network of a recipe that differs in evaluation alone, where its twin's stands beside, whole."""
    twin = training.recipe.twin
    if twin is None:
        return None
    other = replace(training, recipe=twin)
    found = folders.finished(folder.parent / other.key, identity_of(other))
    return found and folders.adopt(found, folder, training.recipe, identity_of(training))


def _metric_of(task: Task, learner: Learner, device: torch.device) -> Callable[[nn.Module], float] | None:
    """The metric of a network as it stands; none of a whole supernet, which is no network to evaluate."""
    if learner.choices is not None:
        return None
    predict = class_indices if learner.head == "logits" else detections
    network = Network(learner.module, predict, learner.forward)
    return lambda module: task.score_evaluation(evaluation_parts(task, module, network, device))


def identity_of(training: Training) -> str:
    """What the folder of this training is marked by."""
    return identity(training.recipe, training.data_digest, training.order_digest, training.network_digest)


def is_whole(training: Training, folder: Path) -> bool:
    """Whether its weights lie there as they were written; what lies there instead is no error."""
    try:
        return folders.finished(folder, identity_of(training)) is not None
    except BnrecalError:
        return False


def moved_aside(training: Training, folder: Path) -> str | None:
    """Away with what is of no use to this training; what to say of it."""
    return folders.moved_aside(folder, identity_of(training))


def trained_source(training: Training, inputs: Inputs, task: Task, folder: Path) -> NetworkSource:
    """Networks with the weights that lie there; raises BnrecalError if they are not there whole."""
    found = folders.finished(folder, identity_of(training))
    if found is None:
        raise BnrecalError(
            f"{folder}: the weights of training {training.key[:8]} are damaged or not there; the same sweep "
            "makes them again"
        )
    at = inputs.model_copy(update={"weights": str(found.weights)})
    return networks.of(at, task, evaluation_conversion(training.recipe), alone=training.arch is not None)
