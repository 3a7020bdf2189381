"""A training as a pass: carried out, told of, and put into an outcome."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch

from bnrecal.executors.executor import Outcome
from bnrecal.host.environment import describe_environment
from bnrecal.host.load import Usage
from bnrecal.measure.trained import train_one
from bnrecal.networks.network import NetworkSource
from bnrecal.study.cells import Training
from bnrecal.tasks.task import Task
from bnrecal.train.loop import Progress


class Said(Protocol):
    """Told how many images were just read, and of a training how far it is."""

    def __call__(self, n: int, said: str = "", /) -> None: ...


def train_outcome(
    training: Training,
    task: Task,
    source: NetworkSource,
    folder: Path,
    device: torch.device,
    started_at: str,
    usage: Usage,
    on_images: Said,
    on_note: Callable[[str], None],
) -> Outcome:
    """Train, telling images and how far it is; `on_note` is told what the user should know."""
    started = time.perf_counter()
    told = 0

    def on_progress(now: Progress) -> None:
        nonlocal told
        done = round(training.n_samples * ((now.epoch - 1) + now.step / now.steps) / now.epochs)
        loss = "" if math.isnan(now.loss) else f" loss {now.loss:.3f}"
        on_images(max(0, done - told), f"epoch {now.epoch}/{now.epochs}{loss}")
        told = max(told, done)

    found = train_one(
        training, task, source, folder, device, on_progress, check=lambda: None, on_note=on_note
    )
    figures = {
        "loss": float(found.log[-1]["loss"]) if found.log else None,
        "train_s": found.seconds,
        "total_s": time.perf_counter() - started,
    }
    return Outcome(
        training,
        str(device),
        started_at,
        figures,
        environment=describe_environment(str(device)),
        weights_sha256=found.sha256,
        usage=usage.so_far(),
    )
