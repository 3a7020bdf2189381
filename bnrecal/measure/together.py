"""Subnets that begin alike, calibrated and evaluated together up to where they part: see prefixes.py.

Each node of the tree is calibrated on what its parent gave for the calibration images, normalised batch by
batch, as in a walk through a single subnet; then the evaluation images go down the tree in portions, each
node with its BatchNorms folded. Both are walked depth first: what is held is one path of activations,
depth x (calibration images, or one portion of evaluation images), not the whole tree.

The figures are those of `measure` for the cells one by one, without the update metric: on the processor
bit for bit, since the same kernels see the same batches.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnrecal.data.draws import permutation, stream_key
from bnrecal.errors import BnrecalError
from bnrecal.host.device import now_s
from bnrecal.measure.images import CalibrationBatches, ForwardSize, Parts, check_numbers, read_ahead, to_input
from bnrecal.measure.measured import Measured, measured
from bnrecal.measure.prefixes import Node, broken_chains, chain_of, grouped, tree_of
from bnrecal.measure.recalibrated import OnImages
from bnrecal.metrics.boxes import Detections
from bnrecal.metrics.map50 import from_evidence
from bnrecal.metrics.resampling import Evidence
from bnrecal.networks.network import NetworkSource
from bnrecal.networks.predictions import NOT_FINITE, joined_outputs
from bnrecal.recalibration.estimators import make_estimator
from bnrecal.recalibration.fold import folded
from bnrecal.recalibration.walk import Walk
from bnrecal.study.axes import MOMENTUM
from bnrecal.study.cells import Cell
from bnrecal.tasks.task import Int64s, Task

Outcome = Measured | BnrecalError


def measure_group(
    cells: Sequence[Cell], task: Task, source: NetworkSource, device: torch.device, on_images: OnImages
) -> Iterator[tuple[Cell, Outcome]]:
    """Yield every cell of a group of `grouped` with its figures, or with the error of what it runs through.

    Seconds are the cell's share: a node's time is divided evenly among the subnets that run through it.
    A subnet whose chain is not what its network computes is such an error.
    """
    group = Group(cells, task, source, device)
    group.calibrate(on_images)
    n, step = task.n_evaluation, read_ahead(task)
    for start in range(0, n, step):
        group.evaluate(start, min(start + step, n))
    for member, cell in enumerate(cells):
        yield cell, group.settle(member)


class Group:
    """The tree of some cells that differ in `arch` alone, and what was found on it so far."""

    def __init__(
        self, cells: Sequence[Cell], task: Task, source: NetworkSource, device: torch.device
    ) -> None:
        self.cells, self.task, self.device = cells, task, device
        started = now_s(device)
        chains = [chain_of(source, cell.arch) for cell in cells]
        assert all(chain is not None for chain in chains), "not a group of `grouped`"
        network = source.build(cells[0].arch)
        self.predict = network.predict
        assert cells[0].seed is not None
        self.ids = task.order(cells[0].seed)[: cells[0].n_samples]
        self.roots = tree_of([chain or () for chain in chains])
        self.in_training = any(m.training for link in chains[0] or () for m in link.modules())
        self.size = ForwardSize(device)
        self.parts: list[Parts] = [[] for _ in cells]
        two = to_input(task, task.calibration_images(self.ids[:2]), torch.device("cpu"))
        self.failures = broken_chains(self.roots, lambda k: source.build(cells[k].arch), two)
        self.out: set[int] = set()  # subnets that are evaluated no more
        self._holders: dict[tuple[int, int], nn.Module] = {}
        self.setup_s = (now_s(device) - started) / len(cells)
        self.recal_s, self.eval_s = [0.0] * len(cells), [0.0] * len(cells)

    def calibrate(self, on_images: OnImages = lambda _: None) -> None:
        """Estimate the statistics of every node; `on_images` is told a subnet's images when it is done."""
        cell = self.cells[0]
        assert cell.batch_size is not None
        batches = CalibrationBatches(self.task, self.device, self.ids, cell.batch_size)
        inputs = list(batches)
        self.setup_s += batches.read_s / len(self.cells)
        for root in self.roots:
            self._calibrate(root, inputs, on_images)
        self._holders.clear()

    @torch.inference_mode()
    def evaluate(self, start: int, stop: int, order: Int64s | None = None) -> None:
        """Predict the evaluation images start..stop-1 by every subnet that is still in.

        They are counted in `order`, if it is given.
        """
        alive = [k for k in range(len(self.cells)) if self.is_in(k)]
        if not alive:
            return
        t0 = now_s(self.device)
        read = self.task.evaluation_images
        if order is None:
            pixels = read(start, stop)
        else:
            pixels = np.concatenate([read(int(i), int(i) + 1) for i in order[start:stop]])
        images = to_input(self.task, pixels, self.device)
        self._share(self.eval_s, alive, now_s(self.device) - t0)

        def forward(at_once: int) -> dict[int, Any]:
            found: dict[int, Any] = {}
            for root in self.roots:
                self._evaluate(root, list(torch.split(images, at_once)), found)
            return found

        for member, predicted in self.size.run(forward).items():
            self.parts[member].append((start, predicted))

    def is_in(self, member: int) -> bool:
        """Whether the subnet is still to be evaluated: neither failed nor taken out."""
        return member not in self.failures and member not in self.out

    def take_out(self, members: Iterable[int]) -> None:
        """Evaluate these no more; what was predicted for them is forgotten."""
        for member in members:
            self.out.add(member)
            self.parts[member] = []

    def settle(self, member: int) -> Outcome:
        """The figures of one subnet, all of whose evaluation images are predicted; frees its predictions."""
        if member in self.failures:
            return self.failures[member]
        t0 = now_s(self.device)
        parts, self.parts[member] = self.parts[member], []
        evidence = self.task.evidence(parts)
        try:
            evaluated = (
                from_evidence(evidence) if self.task.metric == "map50" else self.task.score_evaluation(parts)
            )
        except BnrecalError as error:
            return error
        eval_s = self.eval_s[member] + now_s(self.device) - t0
        seconds = {"setup": self.setup_s, "recal": self.recal_s[member], "eval": eval_s}
        return measured(self.cells[member], None, evaluated, seconds, evidence, self.size.n_images)

    def _calibrate(self, node: Node, inputs: list[Tensor], on_images: OnImages) -> None:
        if not any(self.is_in(k) for k in node.members):
            return
        t0 = now_s(self.device)
        try:
            outputs = self._walked(node, inputs)
        except BnrecalError as error:  # of this node's link: only the subnets through it are lost
            self.failures.update(dict.fromkeys(node.members, error))
            return
        self._share(self.recal_s, node.members, now_s(self.device) - t0)
        for _ in node.ends:
            on_images(len(self.ids))
        for child in node.below.values():
            self._calibrate(child, outputs, on_images)

    def _walked(self, node: Node, inputs: list[Tensor]) -> list[Tensor]:
        """What the node's link gives for the calibration batches; its statistics go into `node.ready`."""
        holder = self._holder(node)
        link = holder.get_submodule(str(node.depth))
        cell = self.cells[0]
        estimator = make_estimator(cell.estimator, cell.momentum or MOMENTUM)

        def forward(_: nn.Module, x: Any) -> Any:
            return link(x)

        if not self._is_live(link):
            node.ready = folded(link)
            with torch.no_grad():
                return [link.eval()(x) for x in inputs]
        with Walk(holder, estimator, forward) as walk:
            outputs = [walk.step(x) for x in inputs]
            statistics = walk.statistics()
        statistics.write_to(holder)
        node.ready = folded(link)
        return outputs

    def _is_live(self, link: nn.Module) -> bool:
        """Whether it has statistics to re-estimate: see recalibration/layers.py."""
        norms = [m for m in link.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
        return any(m.training or not self.in_training for m in norms)

    def _holder(self, node: Node) -> nn.Module:
        """A module in which a copy of the link has the name it has in a chain, such as "3.operation.1".

        Its mode is the chain's: a BatchNorm in eval mode is frozen if anything else is in train mode.
        """
        key = (id(node.link), node.depth)
        if key not in self._holders:
            holder = nn.Module()
            holder.training = self.in_training
            holder.add_module(str(node.depth), copy.deepcopy(node.link))
            self._holders[key] = holder.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self._holders[key]

    def _evaluate(self, node: Node, pieces: list[Tensor], found: dict[int, Any]) -> None:
        alive = [k for k in node.members if self.is_in(k)]
        if not alive:
            return
        assert node.ready is not None
        t0 = now_s(self.device)
        outputs = [node.ready(x) for x in pieces]
        self._share(self.eval_s, alive, now_s(self.device) - t0)
        for member in node.ends:
            if self.is_in(member):
                self._predict(member, outputs, found)
        for child in node.below.values():
            self._evaluate(child, outputs, found)

    def _predict(self, member: int, outputs: list[Tensor], found: dict[int, Any]) -> None:
        t0 = now_s(self.device)
        output = joined_outputs(outputs)
        try:
            check_numbers(output)
            found[member] = self.predict(output)
        except BnrecalError as error:
            self.failures[member] = error
        self.eval_s[member] += now_s(self.device) - t0

    def _share(self, seconds: list[float], members: Sequence[int], taken: float) -> None:
        for member in members:
            seconds[member] += taken / len(members)


def growing_evidence(
    cells: Sequence[Cell], task: Task, source: NetworkSource, device: torch.device
) -> Callable[[Sequence[str], int], Mapping[str, Evidence]]:
    """evaluate(archs, n) for `bnrecal.search.racing.race`: evidence on n evaluation images, of `race_order`.

    The cells differ in `arch` alone. All are calibrated at the first call; a call predicts the images the one
    before did not, by those subnets it names, and forgets the others. Who failed is not in the answer.
    """
    groups, alone = grouped(cells, source)
    if alone:
        raise BnrecalError(f"{alone[0].arch} is no chain of modules; only chains are raced together")
    trees = [Group(group, task, source, device) for group in groups]
    order, step = race_order(task.n_evaluation), read_ahead(task)
    done = [0]

    def evaluate(archs: Sequence[str], n: int) -> Mapping[str, Evidence]:
        wanted, found = set(archs), dict[str, Evidence]()
        for tree in trees:
            if not done[0]:
                tree.calibrate()
            tree.take_out(k for k, cell in enumerate(tree.cells) if cell.arch not in wanted)
            for start in range(done[0], n, step):
                tree.evaluate(start, min(start + step, n), order)
            for k, cell in enumerate(tree.cells):
                if tree.is_in(k):
                    found[cell.arch] = first_evidence(task, tree.parts[k], order[:n])
        done[0] = n
        return found

    return evaluate


def race_order(n_images: int) -> Int64s:
    """A fixed random order: the first images of a set may be all of one class."""
    return permutation(stream_key("race-order"), n_images)


def first_evidence(task: Task, parts: Parts, ids: Int64s) -> dict[str, Any]:
    """The evidence of the evaluation images `ids`, numbered by their place there, which `parts` covers."""
    if task.metric == "top1":
        classes = np.full(task.n_evaluation, NOT_FINITE)
        classes[ids] = np.concatenate([part for _, part in parts])
        return {"correct": task.evidence([(0, classes)])["correct"][ids]}
    by_place = Detections.join(parts)
    found = task.evidence([(0, replace(by_place, image=ids[by_place.image]))])
    place = np.zeros(task.n_evaluation, np.int64)
    place[ids] = np.arange(len(ids))
    return {**found, "image": place[found["image"]], "objects": found["objects"][:, ids]}
