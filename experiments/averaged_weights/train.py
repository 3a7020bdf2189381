"""EMA and schedule-free weights in a plain training loop, each evaluated with statistics of its own.

python train.py [--epochs N] [--images N]     needs pip install schedulefree

Both keep two sets of weights: one that is trained, and an average that is evaluated. BatchNorm's running
statistics are kept for the first. So around every evaluation the average's are estimated anew from some
training images, and put back afterwards: training goes on as if nobody had looked.
"""

import argparse
import itertools
from collections.abc import Iterator

import torch
from schedulefree import AdamWScheduleFree
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import bnrecal
from bnrecal.data.sprites import sprites

Data = tuple[Tensor, Tensor]


def garments(split: str) -> Data:
    """Grey images (n, 1, 28, 28) and labels, in a fixed random order."""
    pixels = torch.from_numpy(sprites(split).copy())
    labels = torch.arange(10).repeat_interleave(pixels.shape[1])
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return (pixels.reshape(-1, 1, 28, 28).float() / 128 - 1)[order], labels[order]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    widths = (1, 16, 32, 64)
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [nn.Conv2d(n_in, n_out, 3, 2, 1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def shuffled(data: Data, seed: int) -> Iterator[list[Tensor]]:
    order = torch.randperm(len(data[0]), generator=torch.Generator().manual_seed(seed))
    for chosen in order.split(32)[:-1]:
        yield [part[chosen] for part in data]


@torch.no_grad()
def accuracy(model: nn.Module, data: Data) -> float:
    model.eval()
    right = sum(
        int((model(x).argmax(1) == y).sum()) for x, y in zip(*(p.split(256) for p in data), strict=True)
    )
    model.train()
    return right / len(data[0])


def both_ways(name: str, model: nn.Module, train: Data, val: Data, n: int) -> None:
    """The recipe: evaluate inside `recalibrated`; here beside what the statistics at hand would give."""
    at_hand = accuracy(model, val)
    with bnrecal.recalibrated(model, train[0].split(32), n_samples=n):
        own = accuracy(model, val)
    print(f"{name:14} with the statistics at hand {at_hand:.3f}, with its own from {n} images {own:.3f}")


def by_ema(train: Data, val: Data, epochs: int, n: int) -> nn.Module:
    model = network()
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.98))
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.003)
    for epoch in range(epochs):
        for x, y in shuffled(train, epoch):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimiser.step()
            average.update_parameters(model)
        both_ways("EMA", average.module, train, val, n)
    return model


def by_schedule_free(train: Data, val: Data, epochs: int, n: int) -> nn.Module:
    model = network()
    optimiser = AdamWScheduleFree(model.parameters(), lr=0.005)
    for epoch in range(epochs):
        optimiser.train()
        for x, y in shuffled(train, epoch):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimiser.step()
        optimiser.eval()  # the average's weights are in the model from here to the next train()
        both_ways("schedule-free", model, train, val, n)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--images", type=int, default=1024, help="to estimate statistics from")
    given = parser.parse_args()
    train, val = garments("train"), garments("val")
    by_ema(train, val, given.epochs, given.images)
    by_schedule_free(train, val, given.epochs, given.images)


if __name__ == "__main__":
    main()
