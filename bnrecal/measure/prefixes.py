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
from torch.utils import _pytree as pytree

from bnrecal.errors import BnrecalError, in_a_line
from bnrecal.networks.forward import plain_forward
from bnrecal.networks.network import Network, NetworkSource
from bnrecal.recalibration.estimators import ESTIMATORS
from bnrecal.recalibration.layers import find_layers
from bnrecal.study.cells import Cell

GROUP = 128  # subnets that share a tree: their predictions are held until all images are seen
Chain = tuple[nn.Module, ...]
_WAYS = (False, True)  # chains are tried with the statistics they have, and with those of the batch


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
    height, width) in eval mode, and again with batch statistics, without which a fresh BatchNorm that a chain
    leaves out would not be missed: it must leave its input alone, which others read as well, and what comes
    out at the end must be what the built network gives, in its form. Both run the same kernels; 1e-5 of the
    largest value is left for another order of additions.
    """
    broken: dict[int, BnrecalError] = {}

    def descend(node: Node, inputs: Sequence[Any]) -> None:
        outputs = []
        for x, of_batches in zip(inputs, _WAYS, strict=True):
            try:
                outputs.append(_passed_on(node, x, of_batches))
            except BnrecalError as error:
                broken.update(dict.fromkeys(node.members, error))
                return
        for member in node.ends:
            wrong = _unlike(network_of, member, outputs, images)
            if wrong is not None:
                broken[member] = wrong
        for child in node.below.values():
            descend(child, outputs)

    with torch.no_grad():
        for root in roots:
            descend(root, [images for _ in _WAYS])
    return broken


def _passed_on(node: Node, x: Any, of_batches: bool) -> Any:
    """What a copy of the node's link makes of `x`; raises BnrecalError for what no chain's link does."""
    place = f"link {node.depth} ({type(node.link).__name__})"
    given = pytree.tree_map_only(Tensor, Tensor.clone, x)  # siblings see what came in
    before = _versions(given)
    try:
        found = _to_try(node.link, of_batches)(given)
    except Exception as error:
        raise _no_chain(f"{place} raised {in_a_line(error)}") from error
    if _versions(given) != before:
        raise _no_chain(f"{place} changes its input in place, which others read as well")
    return found


def _unlike(
    network_of: Callable[[int], Network], member: int, outputs: Sequence[Any], images: Tensor
) -> BnrecalError | None:
    """What is wrong with `outputs`, one of each way, as those of this subnet."""
    try:
        network = network_of(member)
        if getattr(network.forward, "__wrapped__", network.forward) is not plain_forward:
            return _no_chain("the network has a forward of its own, and chains run module by module")
        find_layers(network.module)
        expected = [_to_try(network.module, of_batches)(images) for of_batches in _WAYS]
    except Exception as error:
        return (
            error if isinstance(error, BnrecalError) else _no_chain(f"{in_a_line(error)}, built as a whole")
        )
    (ours, form), (theirs, wanted) = pytree.tree_flatten(list(outputs)), pytree.tree_flatten(expected)
    if form == wanted and all(map(_alike, ours, theirs)):
        return None
    return _no_chain("run one after another its links do not give what the network gives")


def _to_try(module: nn.Module, of_batches: bool) -> nn.Module:
    """A copy in eval mode, its BatchNorms normalising by batches if asked for.

    Synchronised ones cannot, on the processor.
    """
    tried = copy.deepcopy(module).eval()
    for norm in tried.modules() if of_batches else ():
        if isinstance(norm, _BatchNorm) and not isinstance(norm, nn.SyncBatchNorm):
            norm.train()
    return tried


def _versions(given: Any) -> tuple[Any, list[int]]:
    """What changes where a module writes into its input: the containers, or the tensors in them."""
    leaves, form = pytree.tree_flatten(given)
    return form, [leaf._version for leaf in leaves if isinstance(leaf, Tensor)]


def _alike(found: Any, expected: Any) -> bool:
    """Whether two outputs, or parts of them, are the same but for rounding."""
    if not isinstance(found, Tensor) or not isinstance(expected, Tensor):
        return type(found) is type(expected)  # a loss or None: `predict` knows what it reads
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    finite = expected[torch.isfinite(expected)].abs()
    least = 1e-5 * float(finite.max()) if finite.numel() else 0.0
    return torch.allclose(found.double(), expected.double(), rtol=1e-5, atol=least, equal_nan=True)


def _no_chain(reason: str) -> BnrecalError:
    return BnrecalError(f"chain(arch) of the supernet: {reason}")
