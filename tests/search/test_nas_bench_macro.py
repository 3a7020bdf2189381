"""NAS-Bench-Macro's space as built here against what the benchmark publishes of it."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from bnrecal.networks.own import OwnNetworks
from bnrecal.search.cost import Cost, Costs
from bnrecal.search.judges import bn_scores

FILE = Path(__file__).parents[2] / "experiments" / "nas_bench_macro" / "supernet.py"

# Parameters and FLOPs from nas-bench-macro_cifar10.json (github xiusu/NAS-Bench-Macro 61a2bfc, Apache-2.0):
# the smallest, the largest, all of one block, and others drawn at random.
PUBLISHED = {
    "00000000": Cost(7713280, 387882),
    "11111111": Cost(53246464, 1588874),
    "22222222": Cost(105660928, 2932586),
    "02012100": Cost(47327744, 890666),
    "11111221": Cost(65012224, 2181386),
    "00011110": Cost(31390208, 1118378),
    "11022212": Cost(75305472, 2381386),
    "02220120": Cost(63539712, 1695274),
    "12202010": Cost(56910336, 1156234),
}


class Purpose:
    name, metric, classes, input_shape = "cifar10", "top1", tuple("0123456789"), (3, 32, 32)


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("nas_bench_macro_here", FILE)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules["nas_bench_macro_here"] = found
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def source(module: ModuleType) -> OwnNetworks:
    return OwnNetworks("nas_bench_macro_here:supernet", None, Purpose())  # type: ignore[arg-type]


def test_published_flops_and_parameters(source: OwnNetworks) -> None:
    """To the last one, added up over layers from 17 single changes."""
    assert source.space is not None

    def build(arch: str):  # type: ignore[no-untyped-def]
        network = source.build(arch)
        return network.module, network.forward

    costs = Costs(source.space, build, (3, 32, 32))
    assert costs.additive is not None
    assert {arch: costs.of(arch) for arch in PUBLISHED} == PUBLISHED


def test_3969_distinct_networks(module: ModuleType, source: OwnNetworks) -> None:
    """Of 6,561 names; a name and its first name have the same cost by layers that keep their shape."""
    space = source.space
    assert space is not None
    first = [module.canonical(arch) for arch in map(space.encode, space.every())]
    assert (len(first), len(set(first))) == (6561, 3969)
    assert module.canonical("01102000") == "01102000"
    assert module.canonical("00010020") == "00001002"
    assert all(module.canonical(arch) == arch for arch in set(first))


def test_a_subnet_is_its_chain(source: OwnNetworks) -> None:
    """Same modules, same output; the supernet's weights are shared between chains, not between builds."""
    x = torch.randn(2, 3, 32, 32)
    chain = source.chain("01201201")
    other = source.chain("01211201")
    assert chain is not None
    assert other is not None
    assert [a is b for a, b in zip(chain, other, strict=True)] == [True] * 4 + [False] + [True] * 5
    built = source.build("01201201").module
    assert torch.equal(built.eval()(x), nn.Sequential(*chain).eval()(x))
    assert built.training is False
    assert not {id(p) for p in built.parameters()} & {id(p) for link in chain for p in link.parameters()}


def test_identities_score_nothing_and_shape_changes_their_norm(source: OwnNetworks) -> None:
    """The bn judge: 0 for an identity that computes nothing; the initial scales of 1 elsewhere."""
    assert source.space is not None
    scores = bn_scores(source.space, source.candidate)
    assert [layer[0] for layer in scores] == [1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    assert all(layer[1] == layer[2] == 1.0 for layer in scores)


def test_it_can_be_trained_by_paths(source: OwnNetworks) -> None:
    """Eight layers of three operations, which a path shares with the supernet."""
    learner = source.learner(None, 0)
    assert learner.choices is not None
    choices = learner.choices(learner.module)
    assert choices.sizes == (3,) * 8
    assert choices.operations is not None
    path = choices.path((0, 1, 2, 0, 1, 2, 0, 1))
    assert choices.operations[2][2] in list(path.modules())
    assert choices.operations[2][1] not in list(path.modules())
    assert path(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
