"""Training: epochs of steps over all calibration images, logged, kept after each epoch, resumed to the bit.

What an epoch does follows from (recipe, images, network, epoch) and the state after the epoch before, and
from nothing else: its order, augmentation, paths and dropout are drawn anew from (seed, epoch).
"""

import functools
import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bnrecal.errors import BnrecalError, NotANumberError
from bnrecal.host.device import now_s
from bnrecal.networks.learner import Learner
from bnrecal.study.recipe import Recipe
from bnrecal.tasks.task import Task
from bnrecal.train import folder as folders
from bnrecal.train.bounded import bounded_paths, flops_of
from bnrecal.train.checkpoint import Checkpoint
from bnrecal.train.epochs import Batches
from bnrecal.train.folder import Trained
from bnrecal.train.indicator import indicators
from bnrecal.train.numerics import repeatable, seed_epoch
from bnrecal.train.objective import objective_of
from bnrecal.train.paths import check_choices, paths
from bnrecal.train.ranks import ALONE, Ranks
from bnrecal.train.schedule import learning_rate
from bnrecal.train.step import Learning

Epoch = dict[str, Any]
_LOOK_EVERY = 16  # steps on a GPU between two looks at the losses: each look waits for it
_SHOW_EVERY_S = 1.0


@dataclass(frozen=True)
class Progress:
    """Where a training stands. `loss`: mean of this epoch so far, NaN before its first step."""

    epoch: int  # 1, 2, ...; that of the last step
    epochs: int
    step: int  # steps of this epoch that are done
    steps: int
    loss: float
    images_per_s: float
    left_s: float
    note: str | None = None  # what the user should know, such as that a checkpoint was damaged


OnProgress = Callable[[Progress], None]
# of an epoch, by its number: (the paths of each step, how many lie outside the bin of FLOPs drawn for them)
Draw = Callable[[int], tuple[Any, int]]


def train(
    recipe: Recipe,
    task: Task,
    learner: Learner,
    folder: Path,
    device: torch.device,
    on_progress: OnProgress = lambda _: None,
    check: Callable[[], None] = lambda: None,
    evaluate: Callable[[nn.Module], float] | None = None,
    ranks: Ranks = ALONE,
) -> Trained:
    """Train on all calibration images of the task, in `folder`, from where a checkpoint there stands.

    Writes log.jsonl (a line an epoch), checkpoint, and at the end weights.safetensors and recipe.toml; a
    folder that holds the finished network is left as it is. A supernet's log has the BN indicator of each
    candidate. `learner` is used up. `check` is called before every step and may raise. `evaluate` gives a
    metric after each epoch, for the log. Of several processes (`ranks`) the first one alone reads and writes
    `folder`, shows progress and evaluates.

    Raises NotANumberError for a loss that is not finite, BnrecalError for a recipe that does not fit task or
    network, a folder of another training, and a disk that takes no more.
    """
    identity = identity_of(recipe, task, learner)
    _check_same(ranks, identity)
    finished, before, note = ranks.told(_found(folder, identity) if ranks.is_first else (None, None, None))
    if finished is not None:
        return finished
    batches = Batches.of(task, recipe, device, ranks)
    objective = objective_of(task, learner.head, recipe, device)
    _check_sampling(recipe, learner)
    with repeatable(device):
        learning = Learning.of(learner, recipe, objective, device, batches.steps, ranks)
        if learning.choices is not None and recipe.sampling != "none":
            check_choices(recipe.sampling, learning.choices.sizes)
        draw = _draw_of(learning, learner, task, batches.steps)
        if before is not None:
            learning.load(before.state)
        log = before.log if before is not None else []
        if ranks.is_first:
            folders.begin(folder, log)
        if len(log) < recipe.epochs and (n_outside := draw(len(log))[1]):
            outside = (
                f"{n_outside:,} of {batches.steps:,} paths of an epoch lie outside their bin, where none was"
            )
            note = "; ".join(filter(None, (note, f"flops_bins: {outside} drawn in 500 tries")))
        shown = _Shown(recipe, batches, device, on_progress, note)
        shown.start(len(log))
        for epoch in range(len(log), recipe.epochs):
            entry = _epoch(learning, batches, epoch, shown, check, draw)
            ranks.check_together(learning.module.state_dict(), device)
            if evaluate is not None and ranks.is_first:
                entry["metric"] = _evaluated(learning.module, evaluate)
            if learning.choices is not None:
                entry["bn_indicator"] = indicators(learning.choices)
            log = [*log, entry]
            if ranks.is_first:
                folders.keep(folder, Checkpoint(identity, learning.state(), log))
        made = None
        if ranks.is_first:
            made = folders.finish(folder, learning.module, recipe, identity, log)
        made = ranks.told(made)
        assert made is not None
        return made


def _found(folder: Path, identity: str) -> tuple[Trained | None, Checkpoint | None, str | None]:
    """(the finished network of this folder, the checkpoint to go on from, a note for the user)."""
    finished = folders.finished(folder, identity)
    return (finished, None, None) if finished is not None else (None, *folders.resumed(folder, identity))


def _check_same(ranks: Ranks, identity: str) -> None:
    """Raise BnrecalError where this process is to train something else than the first one."""
    if ranks.told(identity) != identity:
        raise BnrecalError(
            f"process {ranks.rank} of {ranks.n} has another recipe, other images or another network than the "
            "first one"
        )


def identity_of(recipe: Recipe, task: Task, learner: Learner) -> str:
    """Digest of all that decides the trained weights: recipe, images with their labels, network."""
    ids = np.sort(task.order(0))
    return identity(recipe, task.data_digest(), task.order_digest(ids), learner.digest)


def identity(recipe: Recipe, data_digest: str, order_digest: str, network_digest: str) -> str:
    """The same from the digests alone."""
    facts = (recipe.key, data_digest, order_digest, network_digest)
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:20]


def _check_sampling(recipe: Recipe, learner: Learner) -> None:
    if recipe.sampling == "none" and learner.choices is not None:
        raise BnrecalError(
            "sampling: none trains one architecture, named by --arch; a whole supernet takes uniform or fair"
        )
    if recipe.sampling != "none" and learner.choices is None:
        raise BnrecalError(
            f"sampling: {recipe.sampling} needs a supernet with choice blocks, this is one network; use none"
        )


def _draw_of(learning: Learning, learner: Learner, task: Task, steps: int) -> Draw:
    recipe, choices = learning.recipe, learning.choices
    if choices is None:
        return lambda epoch: ([[]] * steps, 0)
    if recipe.flops_bins is None:
        return lambda epoch: (paths(recipe.sampling, recipe.seed, epoch, steps, choices.sizes).tolist(), 0)
    bins, flops = recipe.flops_bins, flops_of(choices, learner, task.input_shape)
    learning.module.train()  # counting ran some of it in eval mode

    @functools.lru_cache(maxsize=1)  # the first epoch is asked for twice
    def draw(epoch: int) -> tuple[Any, int]:
        found, n_outside = bounded_paths(bins, flops, recipe.seed, epoch, steps, choices.sizes)
        return found.tolist(), n_outside

    return draw


def _epoch(
    learning: Learning,
    batches: Batches,
    epoch: int,
    shown: "_Shown",
    check: Callable[[], None],
    draw: Draw,
) -> Epoch:
    """All steps of an epoch; its line of the log."""
    recipe, steps = learning.recipe, batches.steps
    seed_epoch(recipe.seed, epoch, batches.ranks.rank)
    taken, n_outside = draw(epoch)
    losses = _Losses(epoch, learning.device)
    started = now_s(learning.device)
    n_images = 0
    for step, (images, at) in enumerate(batches.epoch(epoch)):
        check()
        before = epoch * steps + step
        lr = learning_rate(recipe, before, steps)
        losses.add(learning.step(images, at, taken[step], lr, before / (recipe.epochs * steps)))
        n_images += len(at)
        shown.step(epoch, step + 1, losses)
    total = losses.total()
    seconds = now_s(learning.device) - started
    return {
        "epoch": epoch + 1,
        "of": recipe.epochs,
        "loss": round(total / steps, 4),
        "lr": lr,
        "images_per_s": round(n_images / seconds),
        "seconds": round(seconds, 1),
        **({"outside_bins": n_outside} if n_outside else {}),
        **({"processes": batches.ranks.n} if batches.ranks.n > 1 else {}),
    }


def _evaluated(module: nn.Module, evaluate: Callable[[nn.Module], float]) -> float:
    module.eval()
    try:
        with torch.random.fork_rng():
            return evaluate(module)
    finally:
        module.train()


@dataclass
class _Losses:
    """The losses of an epoch, looked at every few steps: one that is not finite ends the training."""

    epoch: int
    device: torch.device
    seen: float = 0.0
    n_seen: int = 0
    waiting: list[Tensor] = field(default_factory=list)

    def add(self, loss: Tensor) -> None:
        self.waiting.append(loss)
        if len(self.waiting) >= (_LOOK_EVERY if self.device.type == "cuda" else 1):
            self.total()

    def total(self) -> float:
        """The sum so far. Raises NotANumberError naming epoch and step."""
        for loss in torch.stack(self.waiting).tolist() if len(self.waiting) > 1 else map(float, self.waiting):
            self.n_seen += 1
            if not math.isfinite(loss):
                raise NotANumberError(
                    f"the loss is {loss} in epoch {self.epoch + 1}, step {self.n_seen}; lower lr, or set "
                    "clip_norm or warmup"
                )
            self.seen += loss
        self.waiting.clear()
        return self.seen


@dataclass
class _Shown:
    """Tells how far it is, about once a second and at the end of each epoch."""

    recipe: Recipe
    batches: Batches
    device: torch.device
    on_progress: OnProgress
    note: str | None
    started: float = 0.0
    last: float = 0.0
    first_epoch: int = 0

    def start(self, epochs_done: int) -> None:
        self.started = self.last = time.perf_counter()
        self.first_epoch = epochs_done
        steps = self.batches.steps
        self.on_progress(
            Progress(epochs_done, self.recipe.epochs, steps, steps, math.nan, 0.0, math.nan, self.note)
        )

    def step(self, epoch: int, done: int, losses: _Losses) -> None:
        now, steps = time.perf_counter(), self.batches.steps
        if done < steps and now - self.last < _SHOW_EVERY_S:
            return
        self.last = now
        here = (epoch - self.first_epoch) * steps + done
        left = (self.recipe.epochs - self.first_epoch) * steps - here
        a_step_s = (now - self.started) / here
        self.on_progress(
            Progress(
                epoch + 1,
                self.recipe.epochs,
                done,
                steps,
                losses.total() / done,
                self.recipe.batch_size / a_step_s,
                left * a_step_s,
            )
        )
