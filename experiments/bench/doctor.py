"""How long a diagnosis takes beside a bare evaluation of the same images.

    python experiments/bench/doctor.py [images] [side]

torchvision's classifiers with random weights and re-estimated statistics, random images in memory, a
top-1 metric, other images to evaluate on: every check runs. Prints seconds, and how many evaluations of
all images they are. The figure to reach: resnet18, 1,000 images of 64 x 64, under 30 s on two cores.
"""

import sys
import time
from collections.abc import Iterable
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

import bnrecal


def accuracy(labels: Tensor) -> Any:
    def evaluate(model: nn.Module, batches: Iterable[Tensor]) -> float:
        said = torch.cat([model(batch).argmax(1) for batch in batches])
        return float((said == labels[: len(said)]).double().mean())

    return evaluate


@torch.no_grad()
def main(n_images: int, side: int) -> None:
    torch.manual_seed(0)
    images, others = torch.randn(2, n_images, 3, side, side).unbind()
    print(f"{n_images:,} images of {side} x {side}, {torch.get_num_threads()} threads")
    for name in ("resnet18", "mobilenet_v2"):
        model = torchvision.models.get_model(name, weights=None)
        bnrecal.recalibrate(model, others.split(64))
        model.eval()
        started = time.perf_counter()
        labels = torch.cat([model(batch).argmax(1) for batch in images.split(64)])
        bare_s = time.perf_counter() - started
        started = time.perf_counter()
        batches = images.split(32)
        found = bnrecal.diagnose(model, batches, evaluation=others.split(32), evaluate=accuracy(labels))
        taken_s = time.perf_counter() - started
        wrong = ", ".join(finding.check for finding in found.wrong) or "nothing"
        beside = f"{taken_s / bare_s:4.1f} evaluations of {bare_s:.1f} s"
        print(f"{name:14} {taken_s:6.1f} s, {beside}; wrong: {wrong}")


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:]]
    main(*(arguments + [1000, 64][len(arguments) :]))
