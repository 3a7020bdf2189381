"""Several processes for tests: one group that runs many functions, and the images and networks they share."""

import multiprocessing
import pickle
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bnrecal.study.inputs import make_inputs
from bnrecal.study.recipe import make_recipe
from bnrecal.train.ranks import Ranks, joined
from bnrecal.train.request import Request
from tests.own_images import write_class_folders

CPU = torch.device("cpu")
NETWORKS = """
import time
import torch
from torch import distributed, nn

def net():
    return nn.Sequential(nn.Conv2d(3, 6, 3, 2, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
                         nn.Conv2d(6, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))

class Second(nn.Module):
    '''In the second process a forward does what `how` says.'''
    def __init__(self, how):
        super().__init__()
        self.how, self.inside, self.unused = how, net(), nn.Linear(2, 2)
        self.unused.requires_grad_(how == "unused")
        self.register_buffer("seen", torch.zeros(()))
    def forward(self, x):
        second = distributed.is_initialized() and distributed.get_rank() == 1
        if self.how == "raises" and second:
            raise KeyError("of the second process")
        if self.how == "hangs" and second:
            time.sleep(3600)
        if self.how == "drifts":
            self.seen += x.detach().mean()
        return self.inside(x)

def raises(): return Second("raises")
def hangs(): return Second("hangs")
def drifts(): return Second("drifts")
def unused(): return Second("unused")
"""


def write_place(folder: Path) -> None:
    """Class folders of 50 images, and a module `together_nets`."""
    write_class_folders(folder / "images", n=25, size=12)
    (folder / "together_nets.py").write_text(NETWORKS)


def request(folder: Path, out: str, network: str = "net", **settings: Any) -> Request:
    images = {"calibration": str(folder / "images/train"), "evaluation": str(folder / "images/val")}
    inputs = {"task": "imagefolder", "image_size": 12, **images, "model": f"together_nets:{network}"}
    return Request(make_recipe(settings), make_inputs(inputs), None, folder / out)


def in_processes(n: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `work(ranks, *arguments)` gives in each of n processes that hear each other."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        queue = context.SimpleQueue()
        processes = [
            context.Process(
                target=_one, args=(queue, sys.path, rank, n, meeting, work, arguments), daemon=True
            )
            for rank in range(n)
        ]
        for process in processes:
            process.start()
        found = dict(pickle.loads(queue.get()) for _ in processes)
        for process in processes:
            process.join()
    return [found[rank] for rank in range(n)]


def _one(
    queue: Any, path: list[str], rank: int, n: int, meeting: str, work: Callable[..., Any], arguments: Any
) -> None:
    sys.path[:] = path
    torch.set_num_threads(1)
    try:
        with joined(rank, n, CPU, 120.0, meeting) as ranks:
            found = work(ranks, *arguments)
    except Exception as error:
        found = error
    queue.put(pickle.dumps((rank, found)))  # tensors by value: their process ends


def train_all(ranks: Ranks, requests: dict[str, Request]) -> None:
    for wanted in requests.values():
        wanted.run(CPU, lambda _: None, ranks)
