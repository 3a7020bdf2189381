"""Which subnets begin alike: chains of modules, and the tree of their beginnings.

In a chain of modules every activation, and so every BatchNorm's statistics, depends on the modules before
it alone. Architectures whose chains begin with the same modules therefore have the same statistics and the
same activations there, to the last bit, and a tree of beginnings computes each once:

    stem - transition - block 0: conv1x1 - block 1: conv1x1   - ... - head   subnet 0-0-...
                      |                  ` block 1: conv3x3   - ... - head   subnet 0-3-...
                      ` block 0: conv3x3 - ...

Served are sources whose `chain` says so, each BatchNorm once in it, and estimators that read the images in
one walk (neither `exact` nor `stored`). Everything else goes the old way: `grouped` tells which is which.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnrecal.errors import BnrecalError, in_a_line
from bnrecal.networks.forward import plain_forward
from bnrecal.networks.network import Network, NetworkSource
from bnrecal.recalibration.estimators import ESTIMATORS
from bnrecal.recalibration.layers import find_layers
from bnrecal.study.cells import Cell

GROUP = 128  # subnets that share a tree: their predictions are held until all images are seen
Chain = tuple[nn.Module, ...]


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
    """(groups of cells for `measure_group` in together.py, cells that go the old way).

    Cells of a group differ in `arch` alone; they are put in the order of their chains, so that
    neighbours share the longest beginnings, and cut into groups of `size`.
    """
    chains: dict[str, Chain | None] = {}
    sets: dict[Cell, list[Cell]] = {}
    alone: list[Cell] = []
    for cell in cells:
        if cell.arch not in chains:
            chains[cell.arch] = chain_of(source, cell.arch)
        if chains[cell.arch] is None or cell.estimator not in ESTIMATORS:
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


def broken_chains(
    roots: Sequence[Node], network_of: Callable[[int], Network], images: Tensor
) -> dict[int, BnrecalError]:
    """The subnets whose chain does not compute what `network_of(subnet)` does, with what is wrong.

    Every link of the tree is tried, copied by itself as it is for measuring, on `images` (images, channels,
    height, width) in eval mode: it must leave its input alone, which others read as well, and what comes
    out at the end must be what the built network gives. Both run the same kernels; 1e-4 of the value is left
    for another order of additions.
    """
    broken: dict[int, BnrecalError] = {}

    def descend(node: Node, x: Any) -> None:
        link, place = copy.deepcopy(node.link).eval(), f"link {node.depth} ({type(node.link).__name__})"
        given = x.clone() if isinstance(x, Tensor) else x  # siblings see what came in
        version = given._version if isinstance(x, Tensor) else None
        try:
            y = link(given)
        except Exception as error:
            broken.update(dict.fromkeys(node.members, _no_chain(f"{place} raised {in_a_line(error)}")))
            return
        if version is not None and given._version != version:
            changed = f"{place} changes its input in place, which others read as well"
            broken.update(dict.fromkeys(node.members, _no_chain(changed)))
            return
        for member in node.ends:
            wrong = _unlike(network_of, member, y, images)
            if wrong is not None:
                broken[member] = wrong
        for child in node.below.values():
            descend(child, y)

    with torch.no_grad():
        for root in roots:
            descend(root, images)
    return broken


def _unlike(
    network_of: Callable[[int], Network], member: int, found: Any, images: Tensor
) -> BnrecalError | None:
    """What is wrong with `found` as the output of this subnet."""
    try:
        network = network_of(member)
        if getattr(network.forward, "__wrapped__", network.forward) is not plain_forward:
            return _no_chain("the network has a forward of its own, and chains run module by module")
        find_layers(network.module)
        expected = network.module.eval()(images)
    except Exception as error:
        return (
            error if isinstance(error, BnrecalError) else _no_chain(f"{in_a_line(error)}, built as a whole")
        )
    same = isinstance(found, Tensor) and isinstance(expected, Tensor) and found.shape == expected.shape
    if same and torch.allclose(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True):
        return None
    return _no_chain("run one after another its links do not give what the network gives")


def _no_chain(reason: str) -> BnrecalError:
    return BnrecalError(f"chain(arch) of the supernet: {reason}")
