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
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnrecal.errors import BnrecalError
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
    neighbours share the longest beginnings, and cut into groups of `size`. Raises BnrecalError if a chain
    is not what its network computes.
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


def check_chain(network: Network, chain: Chain, images: Tensor) -> None:
    """Refuse a chain that does not compute what the built network does, or a link that changes its input.

    Tried on `images` (images, channels, height, width) in eval mode. Raises BnrecalError.
    """
    place = f"chain of {type(network.module).__name__}"
    if getattr(network.forward, "__wrapped__", network.forward) is not plain_forward:
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
