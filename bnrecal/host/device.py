"""Which device to compute on, and how to time on it."""

import re
import time
from typing import TYPE_CHECKING

from bnrecal.errors import BnrecalError

if TYPE_CHECKING:
    import torch


def choose_device(name: str) -> "torch.device":
    """The device for "auto", "cpu", "cuda" or "cuda:i"; auto takes the first GPU if there is one."""
    check_device_name(name)
    import torch

    n_gpus = torch.cuda.device_count()
    if name == "auto":
        return torch.device("cuda:0" if n_gpus else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    index = int(name.partition(":")[2] or 0)
    if index >= n_gpus:
        have = f"{n_gpus} CUDA devices here" if n_gpus else "no CUDA device here"
        raise BnrecalError(f"--device: {name!r}: {have}; valid: auto, cpu, cuda, cuda:i")
    return torch.device("cuda", index)


def devices_of(name: str, n: int, place: str) -> list[str]:
    """The device of each of n processes: a GPU of its own, or the processor for all.

    Raises BnrecalError, naming `place`, for more processes than GPUs.
    """
    first = str(choose_device(name))
    if first == "cpu":
        return ["cpu"] * n
    import torch

    gpus = [first] if ":" in name else [f"cuda:{k}" for k in range(torch.cuda.device_count())]
    if n > len(gpus):
        raise BnrecalError(f"{place}: {n} processes for {len(gpus)} GPUs ({name}); use at most {len(gpus)}")
    return gpus[:n]


def check_device_name(name: str) -> None:
    """Refuse what is no device name at all, without importing torch."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise BnrecalError(f"--device: {name!r}; valid: auto, cpu, cuda, cuda:i")


def now_s(device: "torch.device") -> float:
    """A clock in seconds, read when the device has finished what it was given."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
    return time.perf_counter()
