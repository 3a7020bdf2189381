"""convert: what is replaced, what is kept, what is left alone, and bad input."""

import copy
import subprocess
import sys
from typing import Any

import pytest
import timm
import torch
import torchvision
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

import bnrecal
from bnrecal import BnrecalError, norms
from bnrecal.norms import conversion_of, convert
from tests.norms.layers import close, images, net, settle

NUMBERS: dict[str, dict[str, Any]] = {
    "bn": {"norm_batch": 2},
    "gn": {"groups": 4},
    "ln": {},
    "in": {},
    "brn": {"rmax": 3.0, "dmax": 5.0, "norm_batch": 2},
    "cbn": {"window": 3},
    "naive-cbn": {"window": 3, "norm_batch": 2},
    "evalnorm": {"norm_batch": 2},
    "frozen": {},
}


def test_every_norm_is_tried_here() -> None:
    assert list(NUMBERS) == list(norms.NORMS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm", NUMBERS)
def test_the_model_stays_and_its_copy_is_converted(norm: str, dtype: torch.dtype) -> None:
    """Parameters keep names and values, training reaches them, the model is bit for bit as before."""
    model = net(dtype)
    before = copy.deepcopy(model.state_dict())
    found = convert(model, norm, **NUMBERS[norm])
    assert {n: p.tolist() for n, p in found.state_dict().items() if n in dict(model.named_parameters())} == {
        n: p.tolist() for n, p in model.named_parameters()
    }
    if norm != "frozen":
        assert [n for n, _ in found.named_parameters()] == [n for n, _ in model.named_parameters()]
    found(images(4, 3, 9, 9, dtype=dtype)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in found.parameters())
    assert all(p.grad is None for p in model.parameters())
    assert all(p.dtype == dtype for p in found.parameters())
    close(model.state_dict(), before, 0)
    conversion = conversion_of(found)
    assert conversion.norm == norm
    assert list(conversion.converted) == ["1", "4"]
    assert conversion.left_alone == {}
    assert type(found[1]).__name__ in conversion.converted["1"]


@pytest.mark.parametrize("norm", ["bn", "brn", "cbn", "naive-cbn", "frozen"])
def test_evaluation_is_what_it_was(norm: str) -> None:
    """Norms with running statistics take them over: in eval mode the copy computes the same."""
    model = net().eval()
    x = images(3, 3, 9, 9)
    found = convert(model, norm, **NUMBERS[norm])
    assert not any(module.training for module in found.modules())
    close({"y": found(x)}, {"y": model(x)}, 1e-5)
    back = convert(found, "bn") if norm != "frozen" else found
    close({"y": back(x)}, {"y": model(x)}, 1e-5)


def test_plain_bn_is_a_copy() -> None:
    """Without a norm_batch nothing is to be replaced: the layers' own types, in a copy."""
    model = nn.Sequential(nn.BatchNorm2d(3), nn.SyncBatchNorm(3), BatchNormAct2d(3))
    found = convert(model, "bn", momentum=0.5)
    assert [type(m) for m in found] == [type(m) for m in model]
    assert [m.momentum for m in found] == [0.5] * 3
    assert [m.momentum for m in model] == [0.1] * 3


class Shared(nn.Module):
    """One BatchNorm called twice, under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4)
        self.again = self.norm

    def forward(self, x: Tensor) -> Tensor:
        return self.again(self.norm(x) * 2)


@pytest.mark.parametrize("norm", ["bn", "gn", "brn", "naive-cbn"])
def test_a_shared_layer_is_replaced_once(norm: str) -> None:
    found = convert(Shared(), norm, **({"groups": 2} if norm == "gn" else {}))
    assert found.norm is found.again
    assert list(conversion_of(found).converted) == ["norm"]
    found(images(4, 4, 5, 5))


@pytest.mark.parametrize("norm", NUMBERS)
def test_timm_layers_keep_drop_and_activation(norm: str) -> None:
    """What BatchNormAct2d does after normalising is done by its successor, weights of PReLU included."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), BatchNormAct2d(8, act_layer=nn.PReLU)).eval()
    settle(model[1])
    found = convert(model, norm, **NUMBERS[norm]).eval()
    assert "1.act.weight" in found.state_dict()
    x = images(4, 3, 6, 6)
    y = found(x)
    bare = copy.deepcopy(found)
    bare[1].act = nn.Identity()
    close({"y": y}, {"y": model[1].act(bare(x))}, 1e-6)


@pytest.mark.parametrize("norm", NUMBERS)
@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:mobilenetv3_small_050", "timm:resnet26d"])
def test_known_networks(name: str, norm: str) -> None:
    """Every BatchNorm of networks people use, a training step and an evaluation."""
    torch.manual_seed(0)
    home, arch = name.split(":")
    builders = {"torchvision": torchvision.models.get_model, "timm": timm.create_model}
    model = builders[home](arch, num_classes=5)
    numbers = {"channels_per_group": 8} if norm == "gn" else NUMBERS[norm]
    found = convert(model, norm, **numbers)
    n_norms = sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
    assert len(conversion_of(found).converted) == n_norms
    assert conversion_of(found).left_alone == {}
    for _ in range(2):
        found(images(4, 3, 64, 64)).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in found.parameters())
    assert found.eval()(images(2, 3, 64, 64)).isfinite().all()


@pytest.mark.parametrize("norm", ["bn", "brn"])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.BatchNorm1d(4), (4, 4)),
        (nn.BatchNorm1d(4), (4, 4, 3)),
        (nn.BatchNorm3d(4), (4, 4, 2, 2, 2)),
        (nn.SyncBatchNorm(4), (4, 4, 3, 3)),
        (nn.BatchNorm2d(4, affine=False), (4, 4, 3, 3)),
    ],
)
def test_other_dimensions(norm: str, layer: nn.Module, shape: tuple[int, ...]) -> None:
    """1d, 3d, SyncBatchNorm and layers without affine weights; input of other dimensions is refused."""
    found = convert(nn.Sequential(layer), norm, norm_batch=2)
    assert found(images(*shape)).shape == shape
    with pytest.raises(ValueError, match="expected"):
        found(images(4))


class Own(nn.BatchNorm2d):
    """Computes something else."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + 1


def test_what_is_left_alone_is_said() -> None:
    """Other normalisations, constants, and BatchNorms with a forward of their own, each with its reason."""
    constants = torchvision.ops.FrozenBatchNorm2d(4)
    model = nn.Sequential(nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.LayerNorm(4), constants, Own(4))
    found = convert(model, "brn")
    left = conversion_of(found).left_alone
    assert list(left) == ["1", "2", "3", "4"]
    assert left["1"] == "GroupNorm: no BatchNorm"
    assert "constants" in left["3"]
    assert "forward of its own" in left["4"]
    assert type(found[4]) is Own
    with pytest.raises(BnrecalError, match=r"no BatchNorm to convert \(GroupNorm: no BatchNorm\)"):
        convert(nn.Sequential(nn.GroupNorm(2, 4)), "gn")
    with pytest.raises(BnrecalError, match="none at all"):
        convert(nn.Linear(2, 2), "gn")
    with pytest.raises(BnrecalError, match="Linear was not made by"):
        conversion_of(nn.Linear(2, 2))


def test_a_layer_by_itself_and_copies() -> None:
    """A model that is a BatchNorm; what was done stays with copies."""
    found = convert(nn.BatchNorm2d(4), "ln")
    assert isinstance(found, norms.LayerNorm)
    assert conversion_of(copy.deepcopy(found)).norm == "ln"


@pytest.mark.parametrize(
    ("norm", "numbers", "message"),
    [
        ("batchnorm", {}, "unknown norm 'batchnorm'; valid: bn, gn, ln, in, brn, cbn, naive-cbn, eval"),
        ("evalnorm", {}, "evalnorm: needs norm_batch"),
        ("gn", {"norm_batch": 2}, "norm_batch=2: norm gn has no such number; it takes groups"),
        ("ln", {"groups": 2}, "groups=2: norm ln has no such number; it takes none"),
        ("gn", {"groups": 0}, "groups=0: a whole number from 1 on"),
        ("gn", {"groups": 2.0}, r"groups=2\.0: a whole number from 1 on"),
        ("brn", {"rmax": 0.5}, r"rmax=0\.5; valid from 1 on"),
        ("brn", {"rmax": "3"}, "rmax='3': a number"),
        ("bn", {"momentum": 0.0}, "momentum=0.0: more than 0"),
    ],
)
def test_bad_input(norm: str, numbers: dict[str, Any], message: str) -> None:
    with pytest.raises(BnrecalError, match=message):
        convert(net(), norm, **numbers)


@pytest.mark.parametrize("norm", ["brn", "cbn", "naive-cbn", "frozen"])
def test_layers_without_statistics_are_refused_by_name(norm: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))
    with pytest.raises(BnrecalError, match=r"^1: .*running statistics"):
        convert(model, norm)


def test_models_that_cannot_be_copied_or_are_not_ready() -> None:
    with pytest.raises(BnrecalError, match="1 was never initialised"):
        convert(nn.Sequential(nn.Linear(2, 2), nn.LazyBatchNorm1d()), "bn")
    with pytest.raises(BnrecalError, match="convert the module inside DataParallel"):
        convert(nn.DataParallel(nn.BatchNorm2d(2)), "bn")
    model = net()
    model.kept = model(images(2, 3, 9, 9))
    with pytest.raises(BnrecalError, match="cannot be copied"):
        convert(model, "bn")


def test_reached_from_the_package_and_only_then_imported() -> None:
    """bnrecal.norms.convert without an import of its own; `import bnrecal` alone imports no torch."""
    assert bnrecal.norms.convert is convert
    code = "import sys, bnrecal; assert 'torch' not in sys.modules; bnrecal.norms.convert"
    subprocess.run([sys.executable, "-c", code], check=True)
