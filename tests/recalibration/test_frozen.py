"""Which BatchNorms count as frozen: the modes of BatchNorms alone decide, and a mixture is said."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import bnrecal
from bnrecal import BnrecalError
from bnrecal.recalibration.frozen import frozen_layers
from bnrecal.recalibration.recalibrate import FrozenWarning

BATCHES = list(torch.randn(24, 3, 8, 8, generator=torch.Generator().manual_seed(0)).mul(3).split(8))


class Net(nn.Module):
    """Two blocks with a BatchNorm each, a dropout and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.drop, self.head = nn.Dropout(), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.drop(self.two(self.one(x)).mean((2, 3))))
        return y


class Lightning(nn.Module):
    """A wrapper that holds the network and more, and forwards to it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.loss = net, nn.CrossEntropyLoss()

    def forward(self, x: Tensor) -> Any:
        return self.net(x)


def new_head(net: Net) -> nn.Module:
    net.head = nn.Linear(4, 3)
    return net


def one_dropout(net: Net) -> nn.Module:
    net.drop.train()
    return net


UNFROZEN: dict[str, Callable[[Net], nn.Module]] = {
    "a new head": new_head,
    "one dropout in train mode": one_dropout,
    "AveragedModel": AveragedModel,
    "nn.Sequential": nn.Sequential,
    "a wrapper": Lightning,
    "nothing": lambda net: net,
}


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


@pytest.mark.parametrize("how", UNFROZEN)
@pytest.mark.parametrize("estimator", ["pooled", "exact"])
def test_what_stands_around_batchnorms_freezes_none(how: str, estimator: str) -> None:
    """All BatchNorms in eval mode: all are re-estimated, nothing is warned of, modes are handed back."""
    model = UNFROZEN[how](Net().eval())
    before = modes(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = bnrecal.recalibrate(model, BATCHES, estimator=estimator)
    assert len(report.layers) == 2
    assert modes(model) == before
    found = bnrecal.diagnose(model, BATCHES)
    assert found["frozen"].evidence == "no BatchNorm is frozen"
    assert modes(model) == before


def mixed() -> Net:
    """In eval mode but for its first block, as in a network of which one part is trained on."""
    net = Net().eval()
    net.one.train()
    return net


def test_a_mixture_freezes_those_in_eval_mode_and_says_so() -> None:
    """In the warning, in str(report) and by the doctor, with counts and the way to have it otherwise."""
    net = mixed()
    before = modes(net)
    with pytest.warns(FrozenWarning) as warned:
        report = bnrecal.recalibrate(net, BATCHES)
    assert report.layers == ("one.1",)
    assert net.two[1].running_var.eq(1).all()
    (said,) = (str(warning.message) for warning in warned)
    assert said.startswith("1 of 2 BatchNorms (two.1) is in eval mode and 1 in train mode")
    assert 'frozen="none" (--frozen none)' in said
    assert "left alone: 1 (two.1): frozen: in eval mode while other" in str(report)
    found = bnrecal.diagnose(net, BATCHES)["frozen"]
    assert found.layers == ("two.1",)
    assert "1 of 2 BatchNorms (two.1) count as frozen" in found.evidence
    assert 'frozen="none"' in found.remedy
    assert modes(net) == before


@pytest.mark.parametrize(
    ("frozen", "layers"),
    [
        ("none", ("one.1", "two.1")),
        ("by_mode", ("one.1",)),
        (["one.1"], ("two.1",)),
        (["one"], ("two.1",)),
        ((), ("one.1", "two.1")),
    ],
)
def test_what_is_asked_for_is_done_without_a_warning(frozen: Any, layers: tuple[str, ...]) -> None:
    """By both `recalibrate` and `recalibrated`, which puts the statistics of just these back."""
    net = mixed()
    before, own = modes(net), {name: value.clone() for name, value in net.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with bnrecal.recalibrated(net, BATCHES, frozen=frozen) as report:
            assert report.layers == layers
        assert all(torch.equal(value, own[name]) for name, value in net.state_dict().items())
        assert bnrecal.recalibrate(net, BATCHES, frozen=frozen).layers == layers
    assert modes(net) == before
    found = bnrecal.diagnose(mixed(), BATCHES, frozen=frozen)["frozen"]
    assert set(found.layers) == {"one.1", "two.1"} - set(layers)


def test_by_mode_freezes_a_network_in_eval_mode() -> None:
    """Nothing is left to re-estimate, and the line says what to ask for."""
    with pytest.raises(BnrecalError, match=r'no BatchNorm to recalibrate .*frozen="by_mode"; "none"'):
        bnrecal.recalibrate(Net().eval(), BATCHES, frozen="by_mode")


def test_batchnorms_without_statistics_have_no_say() -> None:
    """One that normalises by batch always, in train mode, freezes no other."""
    net = nn.Sequential(Net().eval().one, nn.BatchNorm2d(4, track_running_stats=False).train())
    assert frozen_layers(net) == ()


@pytest.mark.parametrize("call", [bnrecal.recalibrate, bnrecal.diagnose])
@pytest.mark.parametrize(
    ("frozen", "message"),
    [
        (["two.2"], "no BatchNorm is called 'two.2'.*the nearest: two.1, "),
        (["layer1"], "no BatchNorm is called 'layer1'.*the nearest: "),
        ("all", "frozen='all': valid are auto, by_mode, none, or a list"),
    ],
)
def test_unknown_names_are_one_line(call: Any, frozen: Any, message: str) -> None:
    """With the nearest valid ones."""
    with pytest.raises(BnrecalError, match=message):
        call(Net(), BATCHES, frozen=frozen)
