"""Chains of modules and the tree of their beginnings."""

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from bnrecal import networks
from bnrecal.measure.prefixes import Chain, broken_chains, chain_of, grouped, n_nodes, tree_of
from bnrecal.networks.embedded import EmbeddedSupernet
from bnrecal.networks.network import Network
from bnrecal.plan.grid import cells_of
from bnrecal.plan.opened import Opened
from bnrecal.study.cells import Cell
from bnrecal.study.study import make_study


def cells(archs: Sequence[str] = ("arch1", "arch2"), **settings: object) -> list[Cell]:
    return cells_of(
        Opened.of(
            make_study(
                {"task": "tiny", "baseline": False, "arch": archs, "bs": [16], "samples": [64], **settings}
            )
        )
    )


def test_each_beginning_is_computed_once() -> None:
    """Nodes of the tree counted by hand: 12 links a subnet, shared up to where paths part."""
    source = EmbeddedSupernet()

    def nodes(*archs: str) -> int:
        return n_nodes(tree_of([chain_of(source, arch) or () for arch in archs]))

    assert nodes("0-0-0-0-0-0-0-0") == nodes("arch1", "0-0-0-0-0-0-0-0") == 12
    assert nodes("0-0-0-0-0-0-0-0", "0-0-0-0-0-0-0-1") == 12 + 2  # the last block and the head behind it
    assert nodes("0-0-0-0-0-0-0-0", "1-0-0-0-0-0-0-0") == 2 * 12 - 2  # stem and transition alone
    every = [f"0-0-0-0-0-0-{a}-{b}" for a in range(4) for b in range(4)]
    assert nodes(*every) == 9 + 4 + 16 + 16


def test_neighbours_stand_together() -> None:
    """Cells come in the order of their chains, whatever order they were asked for in."""
    source = EmbeddedSupernet()
    every = [f"{a}-0-0-0-0-0-0-{b}" for b in range(4) for a in range(4)]
    groups, _ = grouped(cells(every), source, 4)
    assert sorted({cell.arch[0] for cell in group} for group in groups) == [{"0"}, {"1"}, {"2"}, {"3"}]


def test_what_is_no_chain_goes_the_old_way() -> None:
    """`exact` cells, and networks of sources that name no chain, are handed back."""
    source = EmbeddedSupernet()
    todo = cells(estimator=["exact", "pooled"])
    groups, alone = grouped(todo, source)
    assert {cell.estimator for cell in alone} == {"exact"}
    assert {cell.estimator for group in groups for cell in group} == {"pooled"}

    class WithoutChain(EmbeddedSupernet):
        def chain(self, arch: str) -> Chain | None:
            return None

    assert grouped(todo, WithoutChain()) == ([], todo)


def test_a_norm_at_two_places_is_no_chain() -> None:
    """Its statistics depend on what comes after its first call."""
    twice = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))

    class Repeated(EmbeddedSupernet):
        def chain(self, arch: str) -> Chain | None:
            return (twice, nn.ReLU(), twice)

    assert chain_of(Repeated(), "arch1") is None


def network() -> Network:
    return networks.get().build("arch1")


def said_of(chains: Sequence[Chain], built: Sequence[Network]) -> dict[int, str]:
    """What `broken_chains` says of each."""
    images = torch.randn(2, 1, 64, 64)
    return {k: str(error) for k, error in broken_chains(tree_of(chains), built.__getitem__, images).items()}


def test_chains_that_are_not_the_network_are_found() -> None:
    """A link missing, a link that changes its input in place, one that raises, and a forward of the
    network's own; the whole chain beside each of them is not at fault."""
    whole = tuple(network().module.children())
    for wrong, reason in (
        ((*whole[:2], *whole[3:]), "do not give what the network gives"),
        ((whole[0], nn.ReLU(inplace=True), *whole[1:]), r"link 1 \(ReLU\) changes its input in place"),
        ((whole[0], nn.Linear(7, 7), *whole[1:]), r"link 1 \(Linear\) raised RuntimeError: "),
    ):
        for at in (0, 1):  # whichever stands first in its group
            chains, said = [whole, whole], {}
            chains[at] = wrong
            said = said_of(chains, [network(), network()])
            assert list(said) == [at]
            assert re.search(reason, said[at])
    inner = (whole[0], nn.ReLU(inplace=True), *whole[1:])  # its neighbours' input is not what it made of it
    assert list(said_of([inner, whole], [network(), network()])) == [0]
    own = replace(network(), forward=lambda module, x: module(x))
    assert "forward of its own" in said_of([whole, whole], [network(), own])[1]


def test_links_that_speak_to_each_other_are_no_chain() -> None:
    """State that one link leaves and another reads is lost where each is copied by itself."""

    class Box(nn.Module):
        def __init__(self, kept: list[torch.Tensor], reads: bool) -> None:
            super().__init__()
            self.kept, self.reads = kept, reads

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not self.reads:
                self.kept[:] = [x.mean()]
                return x + 0
            return x * (1 + self.kept[0]) if self.kept else x + 0

    kept: list[torch.Tensor] = []
    links = (nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3)), Box(kept, False), Box(kept, True))
    built = replace(network(), module=nn.Sequential(*links))
    assert "do not give what the network gives" in said_of([links], [built])[0]


def test_a_wrong_chain_is_found_however_small_its_outputs_are() -> None:
    """Of a head with weights of a millionth: a class may be chosen by differences of that size."""
    head = nn.Conv2d(3, 2, 1)
    with torch.no_grad():
        head.weight.mul_(1e-6)
        head.bias.mul_(1e-6)  # type: ignore[union-attr]
    links = (nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3, padding=1), head)
    built = replace(network(), module=nn.Sequential(*links))
    assert said_of([links], [built]) == {}
    assert "do not give what the network gives" in said_of([(*links[:2], head)], [built])[0]


class Named(nn.Module):
    """Outputs as Hugging Face's models give them: a loss that is None, and logits."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor | None]:
        return {"loss": None, "logits": x.mean((2, 3))}


class Dense(nn.Module):
    """Hands on a list of all features so far, of which it reads the last."""

    def __init__(self, appends: bool) -> None:
        super().__init__()
        self.appends, self.layer = appends, nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        new = self.layer(features[-1])
        if not self.appends:
            return [*features, new]
        features.append(new)
        return features


class First(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 3, 1)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [self.layer(x)]


class Last(nn.Module):
    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat(features, 1)


def test_outputs_and_links_in_other_forms_are_compared_part_by_part() -> None:
    """A dict at the end, lists between links; who appends to the list that it was given is found."""
    links: Chain = (nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), Named())
    built = replace(network(), module=nn.Sequential(*links))
    assert said_of([links, links], [built, built]) == {}
    assert "do not give what the network gives" in said_of([(*links[:1], links[2])], [built])[0]
    dense: Chain = (First(), Dense(False), Dense(False), Last())
    assert said_of([dense], [replace(network(), module=nn.Sequential(*dense))]) == {}
    appending: Chain = (dense[0], Dense(True), dense[2], dense[3])
    said = said_of([appending], [replace(network(), module=nn.Sequential(*appending))])
    assert "link 1 (Dense) changes its input in place" in said[0]
