"""Training the supernet: every step takes one uniformly sampled path (SPOS, Guo et al., ECCV 2020).

BatchNorm normalises by batch and never updates its running statistics (momentum 0), so the weights
that come out hold mean 0 and variance 1 everywhere: whoever evaluates a subnet must recalibrate it.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bnrecal.data.draws import draws, permutation, stream_key
from bnrecal.errors import BnrecalError
from bnrecal.host.files import write_whole
from bnrecal.networks.operations import OPERATIONS
from bnrecal.networks.supernet import N_BLOCKS, N_DISTANCES, Supernet
from bnrecal.tasks.task import Task
from bnrecal.train.objective import Objective, objective_of
from bnrecal.train.recipe import Recipe

Epoch = dict[str, Any]
_PRIOR = 0.02  # a cell's class score before training: most cells are background


def train(recipe: Recipe, task: Task, out: Path, on_epoch: Callable[[Epoch], None] = lambda _: None) -> Path:
    """Train on all calibration images of the task.

    Logs an epoch a line to out/log.jsonl, and returns the path of out/weights.safetensors.
    """
    from safetensors.torch import save

    if task.n_calibration < recipe.batch_size:
        raise BnrecalError(
            f"batch_size: {recipe.batch_size} images, task {task.name} has {task.n_calibration}"
        )
    objective = objective_of(task)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    supernet = Supernet(task.input_shape[0], len(task.classes), task.metric)
    supernet = _initialised(supernet).to(memory_format=torch.channels_last)
    with (out / "log.jsonl").open("w") as log:
        for epoch in _epochs(supernet, recipe, task, objective):
            log.write(json.dumps(epoch) + "\n")
            log.flush()
            on_epoch(epoch)
    state = {name: tensor.contiguous() for name, tensor in supernet.state_dict().items()}
    path = out / "weights.safetensors"
    write_whole(path, save(state))
    return path


def _initialised(supernet: Supernet) -> Supernet:
    """Kaiming fan-in for convolutions; a detection head starts by finding nothing."""
    for module in supernet.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    output = supernet.head[-1]
    assert isinstance(output, nn.Conv2d | nn.Linear)
    assert output.bias is not None
    nn.init.normal_(output.weight, std=0.01)
    nn.init.zeros_(output.bias)
    if isinstance(output, nn.Conv2d):
        nn.init.constant_(output.bias[N_DISTANCES:], float(np.log(_PRIOR / (1 - _PRIOR))))
    return supernet


def _optimiser(supernet: Supernet, recipe: Recipe) -> torch.optim.Optimizer:
    decayed = [p for p in supernet.parameters() if p.ndim > 1]
    others = [p for p in supernet.parameters() if p.ndim == 1]  # BatchNorm and biases
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.max_lr)


def _epochs(supernet: Supernet, recipe: Recipe, task: Task, objective: Objective) -> Iterator[Epoch]:
    images_of = np.sort(task.order(0))
    steps = task.n_calibration // recipe.batch_size
    optimiser = _optimiser(supernet, recipe)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        recipe.max_lr,
        total_steps=recipe.epochs * steps,
        pct_start=recipe.warmup_fraction,
        cycle_momentum=False,
    )
    for epoch in range(recipe.epochs):
        started, total = time.perf_counter(), 0.0
        order = permutation(stream_key("train-order", recipe.seed, epoch), task.n_calibration)
        paths = draws(stream_key("train-paths", recipe.seed, epoch), np.arange(steps), N_BLOCKS)
        for step in range(steps):
            ids = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            images = torch.from_numpy(task.calibration_images(images_of[ids]))
            x = task.to_input(images).to(memory_format=torch.channels_last)
            subnet = supernet.subnet((paths[step] % len(OPERATIONS)).tolist()).train()
            loss = objective(subnet(x), ids)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(supernet.parameters(), recipe.clip_norm)
            optimiser.step()
            schedule.step()
            total += loss.item()
        seconds = time.perf_counter() - started
        yield {
            "epoch": epoch + 1,
            "of": recipe.epochs,
            "loss": round(total / steps, 4),
            "images_per_s": round(steps * recipe.batch_size / seconds),
            "seconds": round(seconds, 1),
        }
