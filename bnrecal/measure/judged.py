"""Judgements: architectures before the judges of search/judges.py, on the networks a source builds."""

import functools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from bnrecal.errors import BnrecalError
from bnrecal.measure.images import to_input
from bnrecal.networks.network import NetworkSource
from bnrecal.search.cost import Built, Costs, count
from bnrecal.search.judges import choice_score, own_judge, random_score
from bnrecal.study.cells import Judgement, JudgePass
from bnrecal.tasks.task import Task

Scorer = Callable[[str], float]  # of an architecture's name, more is better


@dataclass
class Judging:
    """Judges one pass after another; a judge that serves again has looked at the networks already."""

    last: tuple[Judgement, Scorer] | None = None

    def scores(
        self, todo: JudgePass, source: NetworkSource, task: Task, device: torch.device
    ) -> Iterator[tuple[Judgement, float | Exception, float]]:
        """Yield each judgement with its score and seconds, its share of what all need included.

        An architecture that cannot be judged has what was raised in place of its score. Raises BnrecalError
        where the judge has nothing to say of any.
        """
        started = time.perf_counter()
        alike = replace(todo.first, arch="", weights_digest="")
        if self.last is None or self.last[0] != alike:
            self.last = alike, scorer(todo.first, source, task, device)
        score = self.last[1]
        shared_s = (time.perf_counter() - started) / len(todo.cells)
        for cell in todo.cells:
            started = time.perf_counter()
            found: float | Exception
            try:
                found = score(cell.arch)
            except Exception as error:
                found = error
            yield cell, found, shared_s + time.perf_counter() - started


def scorer(asked: Judgement, source: NetworkSource, task: Task, device: torch.device) -> Scorer:
    """The judge of `asked`, having looked at what all architectures share.

    Raises BnrecalError where it has nothing to say of these networks.
    """
    if asked.judge == "bn":
        return _indicator(source)
    if asked.judge in ("flops", "params"):
        return _cost(asked.judge, source, task)
    if asked.judge == "random":
        assert asked.seed is not None
        seed = asked.seed
        return lambda arch: random_score(arch, seed)
    return _own(asked, source, task, device)


def costs_of(source: NetworkSource, task: Task) -> Costs | None:
    """What the space's architectures cost on the task's images; None where no space is named."""
    if source.space is None:
        return None
    return Costs(source.space, lambda arch: _built(source, arch), task.input_shape)


def _indicator(source: NetworkSource) -> Scorer:
    space = source.space
    if space is None:
        raise BnrecalError("--judge bn: this network names no choices, so there is nothing to sum up")

    @functools.cache
    def share(layer: int, choice: int) -> float:
        return choice_score(space, source.candidate, layer, choice)

    return lambda arch: math.fsum(share(*taken) for taken in enumerate(space.decode(arch)))


def _cost(what: str, source: NetworkSource, task: Task) -> Scorer:
    costs = costs_of(source, task)
    if costs is None:
        return lambda arch: float(getattr(count(_built(source, arch), task.input_shape), what))
    return lambda arch: float(getattr(costs.of(arch), what))


def _own(asked: Judgement, source: NetworkSource, task: Task, device: torch.device) -> Scorer:
    judge = own_judge(asked.judge)
    assert asked.seed is not None
    ids = task.order(asked.seed)[: asked.n_samples]
    images = to_input(task, task.calibration_images(ids), device)

    def score(arch: str) -> float:
        module: Any = source.build(arch).module
        module = module.to(device=device, memory_format=torch.channels_last).eval()
        # a judge may work in place, and the next one gets the same
        return judge({"module": module, "arch": arch, "images": images.clone()})

    return score


def _built(source: NetworkSource, arch: str) -> Built:
    network = source.build(arch)
    return network.module, network.forward
