"""Precision and repeatability of a training, in scopes that put back what they change."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bnrecal.data.draws import stream_key

# Autocast computes convolutions and products in these; parameters and running statistics stay float32.
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The scope of a forward and its loss."""
    dtype = PRECISIONS[precision]
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None)


def gradient_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """For float16, whose small gradients would vanish; for others it passes everything through."""
    return torch.amp.GradScaler(device.type, enabled=precision == "float16")


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Inside, cuDNN takes the same algorithms every time; afterwards torch's generators are as before."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


def seed_epoch(seed: int, epoch: int, rank: int = 0) -> None:
    """What dropout and its like draw in this epoch follows from (seed, epoch) and the process alone."""
    name = f"train-torch-{rank}" if rank else "train-torch"  # processes with one stream would draw alike
    torch.manual_seed(stream_key(name, seed, epoch) >> 1)  # torch takes 63 bits of it
