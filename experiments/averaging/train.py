"""Networks whose weights are averages, for averaged.toml and copied.toml: trained once, averaged every way.

    python train.py [--epochs N] [--seeds N] [--every N]   here, with ../cifar10 and residual.py there

At a constant learning rate, where averages are for, and at one that falls to 0. While a network is trained
an EMA of each decay follows it, buffers included (torch's AveragedModel, use_buffers=True), and its last
checkpoints are kept, `--every` so many steps. Writes trained/SCHEDULE/SEED/AVERAGE.safetensors; a
training whose folder is there is not done again.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bnrecal import networks, tasks
from bnrecal.integrations.averaging import average_files, write_average
from bnrecal.networks.saved_weights import write_weights
from bnrecal.study.inputs import Inputs, make_inputs
from bnrecal.study.recipe import Recipe, make_recipe
from bnrecal.study.study import read_study_file
from bnrecal.tasks.task import Task
from bnrecal.train.epochs import Batches
from bnrecal.train.numerics import repeatable, seed_epoch
from bnrecal.train.objective import objective_of
from bnrecal.train.schedule import learning_rate
from bnrecal.train.step import Learning

HERE = Path(__file__).parent
TRAINED = HERE / "trained"
SCHEDULES = {"constant": 0.05, "cosine": 0.1}  # and their (highest) learning rates
DECAYS = (0.9, 0.99, 0.999, 0.9997)
LAST = (2, 4, 8)  # checkpoints
RECIPE = {"batch_size": 64, "nesterov": True, "warmup": 0.5, "augment": "flip"}


class Followed:
    """The averages of one network on its way."""

    def __init__(self, module: nn.Module, folder: Path, every: int) -> None:
        self.module, self.folder, self.every = module, folder, every
        self.checkpoints: list[Path] = []
        self.emas = {
            decay: AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
            for decay in DECAYS
        }

    def step(self, done: int) -> None:
        for ema in self.emas.values():
            ema.update_parameters(self.module)
        if done % self.every == 0:
            path = self.folder / f"checkpoint-{done:06}.safetensors"
            write_weights(self.module, path, {})
            self.checkpoints.append(path)
            while len(self.checkpoints) > max(LAST):
                self.checkpoints.pop(0).unlink()

    def finish(self) -> None:
        """The averages as files; the checkpoints go."""
        write_weights(self.module, self.folder / "last.safetensors", {})
        for decay, ema in self.emas.items():
            write_weights(ema.module, self.folder / f"ema-{decay}.safetensors", {})
        for n in LAST:
            files = self.checkpoints[-n:]
            if len(files) == n:
                write_average(average_files(files), self.folder / f"mean-{n}.safetensors", files, force=False)
        for path in self.checkpoints:
            path.unlink()


def train(recipe: Recipe, task: Task, inputs: Inputs, folder: Path, every: int) -> None:
    device = torch.device("cpu")
    batches = Batches.of(task, recipe, device)
    learner = networks.of(inputs, task).learner("net", recipe.seed)
    objective = objective_of(task, learner.head, recipe, device)
    with repeatable(device):
        learning = Learning.of(learner, recipe, objective, device, batches.steps)
        followed = Followed(learning.module, folder, every)
        total = recipe.epochs * batches.steps
        for epoch in range(recipe.epochs):
            seed_epoch(recipe.seed, epoch)
            started, losses = time.perf_counter(), []
            for step, (images, at) in enumerate(batches.epoch(epoch), epoch * batches.steps):
                lr = learning_rate(recipe, step, batches.steps)
                losses.append(float(learning.step(images, at, [], lr, step / total)))
                followed.step(step + 1)
            rate = len(losses) * recipe.batch_size / (time.perf_counter() - started)
            mean = sum(losses) / len(losses)
            print(f"  epoch {epoch + 1}/{recipe.epochs}: loss {mean:.4f}, {rate:,.0f} images/s", flush=True)
    followed.finish()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--every", type=int, default=200, help="steps between two checkpoints")
    given = parser.parse_args()
    settings = read_study_file(HERE / "averaged.toml")
    inputs = make_inputs({**settings, "model": "residual:net"})
    task = tasks.of(inputs)
    for seed in range(given.seeds):
        for schedule, lr in SCHEDULES.items():
            folder = TRAINED / schedule / str(seed)
            if folder.exists():
                continue
            print(f"{schedule}, seed {seed}", flush=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            recipe = make_recipe(
                {**RECIPE, "epochs": given.epochs, "lr": lr, "schedule": schedule, "seed": seed}
            )
            with TemporaryDirectory(dir=TRAINED) as work:
                train(recipe, task, inputs, Path(work), given.every)
                Path(work).rename(folder)
                Path(work).mkdir()  # for the scope to take away


if __name__ == "__main__":
    main()
