"""A step of bnrecal's training beside the same loop written plainly in PyTorch.

    python experiments/bench/train.py [rounds]

Both train the same network on the same images in the same order, in the same memory format, with SGD,
momentum and a cosine schedule. Each round runs an epoch of both, in turn and in changing order, and takes
their ratio, so that a machine that slows down slows down both. Prints the median ratio over the rounds.
"""

import statistics
import sys
import time
from collections.abc import Callable
from tempfile import mkdtemp

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from bnrecal import tasks
from bnrecal.data.draws import permutation, stream_key
from bnrecal.networks.embedded import EmbeddedSupernet
from bnrecal.networks.head import boxes_and_logits
from bnrecal.networks.learner import Learner
from bnrecal.study.inputs import make_inputs
from bnrecal.study.recipe import Recipe
from bnrecal.train import loop
from bnrecal.train.detection_loss import detection_loss
from bnrecal.train.epochs import Batches
from bnrecal.train.objective import objective_of
from bnrecal.train.step import Learning

CPU = torch.device("cpu")
N_STEPS = {64: 4, 8: 16}  # of an epoch, by batch size


def ours(learner: Learner, task: tasks.Task, recipe: Recipe) -> Callable[[], None]:
    """One epoch of bnrecal's loop, without the files it writes at its end."""
    batches = Batches(
        task, recipe, CPU, np.sort(task.order(0))[: N_STEPS[recipe.batch_size] * recipe.batch_size]
    )
    objective = objective_of(task, learner.head, recipe, CPU)
    learning = Learning.of(learner, recipe, objective, CPU, batches.steps)
    shown = loop._Shown(recipe, batches, CPU, lambda _: None, None)
    shown.start(0)
    return lambda: void(loop._epoch(learning, batches, 0, shown, lambda: None))


def plain(
    network: nn.Module,
    images: Tensor,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    recipe: Recipe,
    to_input: Callable[[Tensor], Tensor],
) -> Callable[[], None]:
    """What one would write: the images in memory as uint8, index, normalise, forward, backward, step."""
    network = network.to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.SGD(network.parameters(), lr=recipe.peak_lr, momentum=0.9, weight_decay=5e-4)
    size, steps = recipe.batch_size, N_STEPS[recipe.batch_size]
    order = torch.from_numpy(permutation(stream_key("train-order", recipe.seed, 0), steps * size))

    def epoch() -> None:
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.epochs * steps)
        total = 0.0
        for at in order.split(size):
            x = to_input(images[at]).to(memory_format=torch.channels_last)
            optimiser.zero_grad()
            loss = loss_of(network(x), at)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += loss.item()

    return epoch


def void(_: object) -> None:
    pass


def ratio(mine: Callable[[], None], theirs: Callable[[], None], rounds: int) -> tuple[float, float, float]:
    """(median of the ratios, its quartiles)."""
    found = []
    for k in range(rounds + 1):
        taken = {}
        for name in ("mine", "theirs") if k % 2 else ("theirs", "mine"):
            started = time.perf_counter()
            mine() if name == "mine" else theirs()
            taken[name] = time.perf_counter() - started
        if k:  # the first round warms up
            found.append(taken["mine"] / taken["theirs"])
    low, middle, high = statistics.quantiles(found, n=4)
    return middle, low, high


def detector(batch_size: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """arch2 of the supernet on scenes of `tiny`, with its detection loss."""
    task = tasks.get("tiny")
    source = EmbeddedSupernet(None, task)
    recipe = Recipe(batch_size=batch_size, epochs=10)
    n = N_STEPS[batch_size] * batch_size
    images = torch.from_numpy(task.calibration_images(np.sort(task.order(0))[:n]))
    objective = objective_of(task, "grid", recipe, CPU)

    def loss_of(raw: Tensor, at: Tensor) -> Tensor:
        boxes, labels, assigned = (getattr(objective, name)[at] for name in ("boxes", "classes", "assigned"))
        return detection_loss(*boxes_and_logits(raw), boxes, labels, assigned)

    mine = ours(source.learner("arch2", 0), task, recipe)
    return mine, plain(source.learner("arch2", 0).module, images, loss_of, recipe, task.to_input)


def classifier(batch_size: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """torchvision's resnet18 on 256 class-folder images of 32 pixels."""
    from pathlib import Path

    from PIL import Image

    root = Path(mkdtemp())
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for k in range(256):
            folder = root / split / str(k % 10)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / f"{k}.png")
    places = {"calibration": str(root / "train"), "evaluation": str(root / "val")}
    task = tasks.of(make_inputs({"task": "imagefolder", "image_size": 32, **places}))
    recipe = Recipe(batch_size=batch_size, epochs=10)
    n = N_STEPS[batch_size] * batch_size
    ids = np.sort(task.order(0))[:n]
    images = torch.from_numpy(task.calibration_images(ids))
    labels = torch.from_numpy(np.asarray(task.calibration_labels)[ids])  # type: ignore[attr-defined]

    def network() -> nn.Module:
        torch.manual_seed(0)
        found: nn.Module = torchvision.models.resnet18(weights=None, num_classes=10)
        return found

    mine = ours(Learner(network(), "resnet18"), task, recipe)
    theirs = plain(network(), images, lambda y, at: F.cross_entropy(y, labels[at]), recipe, task.to_input)
    return mine, theirs


def main(rounds: int) -> None:
    print(
        f"time of a training step by that of a plain loop, {rounds} rounds, {torch.get_num_threads()} threads"
    )
    for name, made in (("supernet arch2, 64 px", detector), ("resnet18, 32 px", classifier)):
        for batch_size in N_STEPS:
            middle, low, high = ratio(*made(batch_size), rounds)
            print(
                f"{name:24} batch {batch_size:<3} {middle:.3f} (quartiles {low:.3f} to {high:.3f})",
                flush=True,
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
