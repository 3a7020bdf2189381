"""What a supernet of one's own tells of its space, its candidates and its chain."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bnrecal import networks
from bnrecal.errors import BnrecalError
from bnrecal.networks.network import NetworkSource
from bnrecal.search.cost import Cost, Costs, count
from bnrecal.search.judges import bn_scores
from bnrecal.study.inputs import Inputs

FOLDER = Path(__file__).parents[2] / "experiments" / "own_network"


class Purpose:
    name, metric, classes, input_shape = "a task", "top1", ("a", "b", "c"), (1, 28, 28)


def source_of(made: object, monkeypatch: pytest.MonkeyPatch) -> NetworkSource:
    monkeypatch.setitem(sys.modules, "own_space_here", SimpleNamespace(factory=lambda: made))  # type: ignore[misc]
    return networks.of(Inputs(model="own_space_here:factory"), Purpose())


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 28), nn.BatchNorm2d(3), nn.Flatten())


def build(self: object, arch: str) -> nn.Module:
    return net()


def made(**parts: object) -> object:
    return type("Made", (), {"archs": ("0-1",), "build": build, **parts})()


def test_the_slimmable_example_is_a_search_space(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 widths; costs that do not add up, since a layer's width is the next one's input; and a bn indicator
    of the first channels' scales."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.chdir(FOLDER)
    source = networks.of(Inputs(model="slimmable:supernet"), Purpose())
    space = source.space
    assert space is not None
    assert space.size == 64
    assert space.decode("2-8-4") == (0, 3, 1)

    def built(arch: str):  # type: ignore[no-untyped-def]
        network = source.build(arch)
        return network.module, network.forward

    costs = Costs(space, built, (1, 28, 28))
    assert costs.additive is None
    by_hand = 14 * 14 * 6 * 9 + 7 * 7 * 48 * 6 * 9 + 4 * 4 * 48 * 48 * 9 + 48 * 3
    params = 6 * 9 + 12 + 48 * 6 * 9 + 96 + 48 * 48 * 9 + 96 + 48 * 3 + 3
    assert costs.of("2-8-4") == count(built("2-8-4"), (1, 28, 28)) == Cost(by_hand, params)
    scores = bn_scores(space, source.candidate)
    assert [set(layer.values()) for layer in scores] == [{1.0}] * 3  # scales as they begin
    assert source.chain("2-8-4") is None


def test_choices_name_what_build_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """random:K draws among them without a `sample`, and names outside are refused."""
    source = source_of(made(choices=(("0", "1"), ("0", "1", "2"))), monkeypatch)
    assert sorted(source.random(6, 0)) == sorted(f"{a}-{b}" for a in range(2) for b in range(3))
    source.check("1-2")
    with pytest.raises(BnrecalError, match="unknown architecture '2-0'"):
        source.check("2-0")


def test_choices_may_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then they are written as numbers; where names are not, there is no space, and names are as before."""
    space = source_of(made(choices=(1, 3)), monkeypatch).space
    assert space is not None
    assert space.layers == (("0",), ("0", "1", "2"))
    other = source_of(made(archs=("small", "large"), choices=(2, 2)), monkeypatch)
    assert other.space is None
    other.check("small")
    with pytest.raises(BnrecalError, match="no architecture '0-1'; valid: small, large"):
        other.check("0-1")


def test_written_choices_can_be_trained_by_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """`subnet` gets numbers, as many as choices are written; candidates come from `blocks`."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.chdir(FOLDER)
    learner = networks.of(Inputs(model="slimmable:supernet"), Purpose()).learner(None, 0)
    assert learner.choices is not None
    choices = learner.choices(learner.module)
    assert choices.sizes == (4, 4, 4)
    assert choices.operations is None
    widths = [m.out_channels for m in choices.path((0, 3, 1)).modules() if isinstance(m, nn.Conv2d)]
    assert widths == [6, 48, 48]


def test_a_source_without_choices_has_no_space(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor candidates, nor a chain: said in one line where one is asked for."""
    source = source_of(made(), monkeypatch)
    assert source.space is None
    assert source.chain("0-1") is None
    with pytest.raises(BnrecalError, match=r"own_space_here:factory has no candidate\(layer, choice\)"):
        source.candidate(0, 0)
    foreign = networks.of(Inputs(model="torchvision:squeezenet1_1"), Purpose())
    assert (foreign.space, foreign.chain("squeezenet1_1")) == (None, None)
    with pytest.raises(BnrecalError, match="does not tell which module"):
        foreign.candidate(0, 0)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"choices": 3}, "choices 3; needs the choices of each layer"),
        ({"choices": ("01", "01")}, "needs the choices of each layer, as texts, or how many"),
        ({"choices": (("0",), ("0",))}, "archs and choices do not agree: unknown architecture '0-1'"),
        ({"choices": (("0", "0"), ("1",))}, "layer 0 has a choice twice"),
        ({"choices": (("3,6", "0"), ("1",))}, "choice '3,6' has a comma"),
    ],
)
def test_choices_that_are_none(
    parts: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused when the space is asked for."""
    with pytest.raises(BnrecalError, match=message):
        _ = source_of(made(**parts), monkeypatch).space


def test_candidates_and_chains_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came instead of a module is named; what the user's code raises as well."""
    source = source_of(made(candidate=lambda self, a, b: 3, chain=lambda self, arch: [1]), monkeypatch)
    with pytest.raises(BnrecalError, match=r"candidate\(0, 1\) returned a int"):
        source.candidate(0, 1)
    with pytest.raises(BnrecalError, match=r"chain\('0-1'\) holds a int"):
        source.chain("0-1")
    nothing = source_of(made(candidate=lambda self, a, b: None, chain=lambda self, arch: 1 / 0), monkeypatch)
    assert nothing.candidate(0, 0) is None
    with pytest.raises(BnrecalError, match=r"chain\('0-1'\) raised ZeroDivisionError"):
        nothing.chain("0-1")


def test_the_embedded_supernet_tells_all_three() -> None:
    """Its space reads its names; a candidate is what the chain's block runs, and blocks of one operation are
    one object in every chain."""
    source = networks.get()
    assert source.space is not None
    assert source.space.decode("arch3") == (3,) * 8
    one, two = source.chain("3-0-0-0-0-0-0-0"), source.chain("3-1-0-0-0-0-0-0")
    assert one is not None
    assert two is not None
    assert [a is b for a, b in zip(one, two, strict=True)] == [True] * 3 + [False] + [True] * 8
    assert one[2].operation is source.candidate(0, 3)
    x = torch.randn(2, 1, 64, 64)
    built = source.build("3-0-0-0-0-0-0-0").module.eval()
    assert torch.equal(nn.Sequential(*one).eval()(x), built(x))
