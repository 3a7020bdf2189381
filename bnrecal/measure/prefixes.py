"""Subnets that begin alike, calibrated and evaluated together up to where they part.

In a chain of modules every activation, and so every BatchNorm's statistics, depends on the modules before
it alone. Architectures whose chains begin with the same modules therefore have the same statistics and the
same activations there, to the last bit, and a tree of beginnings computes each once:

    stem - transition - block 0: conv1x1 - block 1: conv1x1   - ... - head   subnet 0-0-...
                      |                  ` block 1: conv3x3   - ... - head   subnet 0-3-...
                      ` block 0: conv3x3 - ...

Each node is calibrated on what its parent gave for the calibration images, normalised batch by batch, as in
a walk through a single subnet; then the evaluation images go down the tree in portions, each node with its
BatchNorms folded. Both are walked depth first: what is held is one path of activations, depth x
(calibration images, or one portion of evaluation images), not the whole tree.

The figures are those of `measure` for the cells one by one, without the update metric: on the processor
bit for bit, since the same kernels see the same batches.

Served are sources whose `chain` says so, each BatchNorm once in it, and estimators that read the images in
one walk (not `exact`). Everything else goes the old way: `grouped` tells which is which.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnrecal.errors import BnrecalError
from bnrecal.host.device import now_s
from bnrecal.measure.images import CalibrationBatches, ForwardSize, Parts, check_numbers, read_ahead, to_input
from bnrecal.measure.recalibrated import Measured, OnImages
from bnrecal.metrics.map50 import from_evidence
from bnrecal.networks.network import Network, NetworkSource, plain_forward
from bnrecal.networks.predictions import joined_outputs
from bnrecal.recalibration.estimators import make_estimator
from bnrecal.recalibration.fold import folded
from bnrecal.recalibration.layers import find_layers
from bnrecal.recalibration.walk import Walk
from bnrecal.study.cells import MOMENTUM, Cell
from bnrecal.tasks.task import Task

GROUP = 128  # subnets that share a tree: their predictions are held until all images are seen
Chain = tuple[nn.Module, ...]
Outcome = Measured | BnrecalError


@dataclass
class Node:
    """One link of a chain behind one beginning."""

    link: nn.Module
    depth: int
    below: dict[int, "Node"] = field(default_factory=dict)  # by the link's identity
    members: list[int] = field(default_factory=list)  # subnets that run through here
    ends: list[int] = field(default_factory=list)  # subnets that end here
    ready: nn.Module | None = None  # the link with its statistics folded in


def tree_of(chains: Sequence[Chain]) -> list[Node]:
    """The tree of beginnings of these chains; a subnet is its position in `chains`."""
    roots: dict[int, Node] = {}
    for member, chain in enumerate(chains):
        level, node = roots, None
        for depth, link in enumerate(chain):
            node = level.setdefault(id(link), Node(link, depth))
            node.members.append(member)
            level = node.below
        if node is not None:
            node.ends.append(member)
    return list(roots.values())


def n_nodes(nodes: Sequence[Node]) -> int:
    """Nodes of these trees: links that are computed, where plainly it is one for every link of a subnet."""
    return sum(1 + n_nodes(list(node.below.values())) for node in nodes)


def chain_of(source: NetworkSource, arch: str) -> Chain | None:
    """The architecture's chain, or None where none is named or a BatchNorm has two places in it.

    Statistics of a BatchNorm that runs twice depend on what comes after its first call.
    """
    chain = source.chain(arch)
    if not chain:
        return None
    norms = [id(m) for link in chain for m in link.modules() if isinstance(m, _BatchNorm)]
    return chain if len(norms) == len(set(norms)) else None


def grouped(
    cells: Sequence[Cell], source: NetworkSource, size: int = GROUP
) -> tuple[list[tuple[Cell, ...]], list[Cell]]:
    """(groups of cells for `measure_group`, cells that go the old way).

    Cells of a group differ in `arch` alone; they are put in the order of their chains, so that
    neighbours share the longest beginnings, and cut into groups of `size`. Raises BnrecalError if a chain
    is not what its network computes.
    """
    chains: dict[str, Chain | None] = {}
    sets: dict[Cell, list[Cell]] = {}
    alone: list[Cell] = []
    for cell in cells:
        if cell.arch not in chains:
            chains[cell.arch] = chain_of(source, cell.arch)
        if chains[cell.arch] is None or cell.estimator == "exact":
            alone.append(cell)
        else:
            sets.setdefault(replace(cell, arch="", weights_digest=""), []).append(cell)
    place: dict[int, int] = {}  # of a link in the order of first appearance
    for chain in chains.values():
        for link in chain or ():
            place.setdefault(id(link), len(place))

    def by_chain(cell: Cell) -> list[int]:
        return [place[id(link)] for link in chains[cell.arch] or ()]

    groups = []
    for together in sets.values():
        ordered = sorted(together, key=by_chain)
        groups += [tuple(ordered[at : at + size]) for at in range(0, len(ordered), size)]
    return groups, alone


def check_chain(network: Network, chain: Chain, images: Tensor) -> None:
    """Refuse a chain that does not compute what the built network does, or a link that changes its input.

    Tried on `images` (images, channels, height, width) in eval mode. Raises BnrecalError.
    """
    place = f"chain of {type(network.module).__name__}"
    if network.forward is not plain_forward:
        raise BnrecalError(f"{place}: the network has a forward of its own, and chains run module by module")
    find_layers(network.module)
    with torch.no_grad():
        x = images
        for depth, link in enumerate(copy.deepcopy(chain)):
            version, y = x._version, link.eval()(x)
            if x._version != version:
                raise BnrecalError(
                    f"{place}: link {depth} ({type(link).__name__}) changes its input in place, which others "
                    "read as well"
                )
            x = y
        expected = copy.deepcopy(network.module).eval()(images)
    same = isinstance(x, Tensor) and isinstance(expected, Tensor) and x.shape == expected.shape
    if not (same and torch.allclose(x, expected, rtol=1e-4, atol=1e-5, equal_nan=True)):
        raise BnrecalError(f"{place}: run one after another its links do not give what the network gives")


def measure_group(
    cells: Sequence[Cell], task: Task, source: NetworkSource, device: torch.device, on_images: OnImages
) -> Iterator[tuple[Cell, Outcome]]:
    """Yield every cell of a group of `grouped` with its figures, or with the error of what it runs through.

    Seconds are the cell's share: a node's time is divided evenly among the subnets that run through it.
    Raises BnrecalError as `check_chain`.
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
        self.ids = task.order(cells[0].seed)[: cells[0].n_samples]
        two = to_input(task, task.calibration_images(self.ids[:2]), torch.device("cpu"))
        check_chain(network, chains[0] or (), two)
        self.roots = tree_of([chain or () for chain in chains])
        self.in_training = any(m.training for link in chains[0] or () for m in link.modules())
        self.size = ForwardSize(device)
        self.parts: list[Parts] = [[] for _ in cells]
        self.failures: dict[int, BnrecalError] = {}
        self._holders: dict[tuple[int, int], nn.Module] = {}
        self.setup_s = (now_s(device) - started) / len(cells)
        self.recal_s, self.eval_s = [0.0] * len(cells), [0.0] * len(cells)

    def calibrate(self, on_images: OnImages = lambda _: None) -> None:
        """Estimate the statistics of every node; `on_images` is told a subnet's images when it is done."""
        cell = self.cells[0]
        batches = CalibrationBatches(self.task, self.device, self.ids, cell.batch_size)
        inputs = list(batches)
        self.setup_s += batches.read_s / len(self.cells)
        for root in self.roots:
            self._calibrate(root, inputs, on_images)
        self._holders.clear()

    @torch.inference_mode()
    def evaluate(self, start: int, stop: int) -> None:
        """Predict the evaluation images start..stop-1 by every subnet that has not failed."""
        t0 = now_s(self.device)
        images = to_input(self.task, self.task.evaluation_images(start, stop), self.device)
        alive = [k for k in range(len(self.cells)) if k not in self.failures]
        self._share(self.eval_s, alive, now_s(self.device) - t0)

        def forward(at_once: int) -> dict[int, Any]:
            found: dict[int, Any] = {}
            for root in self.roots:
                self._evaluate(root, list(torch.split(images, at_once)), found)
            return found

        for member, predicted in self.size.run(forward).items():
            self.parts[member].append((start, predicted))

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
        recal_s = self.recal_s[member]
        total_s = self.setup_s + recal_s + eval_s
        cell, at_once = self.cells[member], self.size.n_images
        return Measured(cell, None, evaluated, recal_s, 0.0, eval_s, total_s, evidence, at_once)

    def _calibrate(self, node: Node, inputs: list[Tensor], on_images: OnImages) -> None:
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
        alive = [k for k in node.members if k not in self.failures]
        if not alive:
            return
        assert node.ready is not None
        t0 = now_s(self.device)
        outputs = [node.ready(x) for x in pieces]
        self._share(self.eval_s, alive, now_s(self.device) - t0)
        for member in node.ends:
            if member not in self.failures:
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
