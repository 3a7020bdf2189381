"""What the sources of foreign networks share: a module is built, filled, tried and digested."""

import contextlib
import dataclasses
import functools
import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bnrecal.errors import BnrecalError
from bnrecal.metrics.boxes import Detections
from bnrecal.networks.learner import Learner
from bnrecal.networks.network import Convert, Network, Purpose
from bnrecal.networks.predictions import TRIAL_IMAGES, class_indices, joined_outputs, trial_output
from bnrecal.networks.weights_file import State, load_weights, read_weights
from bnrecal.search.space import Space

INITIAL_SEED = 0  # of weights that nobody gives: the same in every process
MOST_NAMED = 8  # classes that a message names


@contextlib.contextmanager
def initial_seed(seed: int = INITIAL_SEED) -> Iterator[None]:
    """torch's generator as this seed has it, and put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def use_instead(task: Purpose) -> str:
    """Tasks for a network of the other kind than this task wants."""
    if task.metric == "map50":
        return (
            f"task {task.name} is detection: give --task imagefolder with --calibration and --evaluation, or "
            "csv, fashion-mnist, cifar10"
        )
    return f"task {task.name} is classification: give --task coco or voc"


def _without_addresses(text: str) -> str:
    """They change from run to run."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


class BuiltNetworks(ABC):
    """A NetworkSource whose modules come from somebody's code, `weights` from a file if there is one."""

    names: tuple[str, ...]

    def __init__(
        self, spec: str, weights: Path | None, task: Purpose, convert: Convert | None = None
    ) -> None:
        self.spec, self.weights, self.task, self.convert = spec, weights, task, convert

    @abstractmethod
    def make(self, arch: str) -> Network:
        """A fresh network with initial weights, or with those its code brings."""

    @property
    def note(self) -> str | None:
        if self.weights is None:
            return f"{self.spec} without --weights: untrained unless its code loads weights"
        return None

    def random(self, n: int, seed: int) -> tuple[str, ...]:
        if n > len(self.names):
            raise BnrecalError(f"--arch: random:{n}: {self.spec} names {len(self.names)} architectures")
        picked = torch.randperm(len(self.names), generator=torch.Generator().manual_seed(seed))
        return tuple(self.names[k] for k in picked[:n].tolist())

    def check(self, arch: str) -> None:
        """By name: what its code brings and a file holds are looked at as it is built."""
        self.check_name(arch)

    def check_name(self, arch: str) -> None:
        if arch not in self.names:
            known = ", ".join(self.names[:12]) + (", ..." if len(self.names) > 12 else "")
            raise BnrecalError(f"--arch: {self.spec} has no architecture {arch!r}; valid: {known}")

    def digest(self, arch: str) -> str:
        """Of the module's structure and every tensor in it: the file's name and place do not matter."""
        return self._digest(arch, self.build(arch).module)

    def _digest(self, arch: str, module: nn.Module) -> str:
        structure = _without_addresses(str(module))
        found = hashlib.sha256(f"{arch}\n{structure}\n".encode())
        for name, tensor in module.state_dict().items():
            if not isinstance(tensor, torch.Tensor):  # of get_extra_state
                found.update(f"{name} {_without_addresses(repr(tensor))}\n".encode())
                continue
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            if tensor.layout != torch.strided:
                tensor = tensor.to_dense()
            found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return found.hexdigest()[:16]

    def build(self, arch: str) -> Network:
        """The filled network, after a trial on two grey images."""
        with initial_seed():
            network = self._converted(self.make(arch))
            self.fill(network.module)
            try:
                output = trial_output(network, self.task.input_shape)
            except BnrecalError:
                raise
            except Exception as error:
                what = f"{type(error).__name__}: {error}"
                shape = "x".join(map(str, self.task.input_shape))
                raise BnrecalError(
                    f"--model: {self.spec} ({arch}) fails on images of {shape}: {what}; "
                    "see --image-size and --channels"
                ) from error
        self._check_output(network, output, arch)
        self._check_predictions(network, output, arch)
        return network

    @property
    def space(self) -> Space | None:
        return None

    def candidate(self, layer: int, choice: int) -> nn.Module | None:
        raise BnrecalError(f"--model: {self.spec} does not tell which module carries out a choice")

    def chain(self, arch: str) -> tuple[nn.Module, ...] | None:
        return None

    def _converted(self, network: Network) -> Network:
        if self.convert is None:
            return network
        return dataclasses.replace(network, module=self.convert(network.module))

    def learner(self, arch: str | None, seed: int) -> Learner:
        """The network as `make` initialises it under `seed`."""
        if self.task.metric != "top1":
            raise BnrecalError(
                f"--model: {self.spec}: only the supernet is trained for detection ({self.task.name})"
            )
        if arch is None:
            raise BnrecalError(
                f"sampling: {self.spec} is no supernet with choice blocks; use none, which trains one network"
            )
        self.check_name(arch)
        with initial_seed(seed):
            network = self._converted(self.make(arch))
            self.fill(network.module)
        return Learner(network.module, self._digest(arch, network.module), forward=network.forward)

    def fill(self, module: nn.Module) -> None:
        """The weights of the file into the module."""
        if self.weights is not None:
            load_weights(module, self._state, self.weights)

    @functools.cached_property
    def _state(self) -> State:
        assert self.weights is not None
        return read_weights(self.weights)

    def _check_output(self, network: Network, output: object, arch: str) -> None:
        if network.predict is not class_indices:
            return
        n = len(self.task.classes)
        if not isinstance(output, torch.Tensor) or output.dim() != 2:
            what = (
                f"shape {tuple(output.shape)}" if isinstance(output, torch.Tensor) else type(output).__name__
            )
            raise BnrecalError(
                f"--model: {self.spec} ({arch}) gives {what}; a classifier gives (images, classes)"
            )
        if output.shape[1] != n:
            names = f" ({', '.join(self.task.classes)})" if n <= MOST_NAMED else ""
            raise BnrecalError(
                f"--model: {self.spec} ({arch}) has {output.shape[1]} outputs, "
                f"task {self.task.name} {n} classes{names}"
            )

    def _check_predictions(self, network: Network, output: Any, arch: str) -> None:
        """What the user's own `predict` makes of the trial: a class for each of its images, or boxes."""
        if network.predict is class_indices:
            return
        place = f"--model: {self.spec} ({arch}): predict"
        try:
            found = network.predict(joined_outputs([output]))
        except BnrecalError:
            raise
        except Exception as error:
            raise BnrecalError(f"{place} raised {type(error).__name__}: {error}") from error
        if self.task.metric == "map50":
            if not isinstance(found, Detections):
                raise BnrecalError(
                    f"{place} gives a {type(found).__name__}; needs bnrecal.metrics.boxes.Detections"
                )
            return
        try:
            classes = np.asarray(found)
        except Exception:  # a tensor on a GPU, lists of different lengths
            classes = np.empty(0)
        if classes.shape != (TRIAL_IMAGES,) or classes.dtype.kind not in "iu":
            raise BnrecalError(
                f"{place} gives {classes.dtype} of shape {classes.shape} for {TRIAL_IMAGES} images; needs a "
                "class index for each, in the host's memory"
            )
