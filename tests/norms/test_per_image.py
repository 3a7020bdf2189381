"""GroupNorm, LayerNorm, InstanceNorm and frozen BatchNorm against torch's and timm's layers."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import GroupNorm as TimmGroupNorm
from timm.layers import GroupNorm1, LayerNormAct
from torch import nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d

from bnrecal.errors import BnrecalError
from bnrecal.norms import FrozenBatchNorm, GroupNorm, InstanceNorm, LayerNorm, convert
from tests.norms.layers import close, gradients, images, settle


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(n=st.integers(1, 4), each=st.integers(1, 4), groups=st.integers(1, 4), side=st.integers(2, 6))
@settings(max_examples=20, deadline=None)
def test_group_norm_and_its_two_ends(dtype: torch.dtype, n: int, each: int, groups: int, side: int) -> None:
    """GN with one channel a group is IN, with one group LN over (C, H, W); oracles torch's and timm's."""
    channels = groups * each
    x = images(n, channels, side, side, dtype=dtype)
    layers = {
        "gn": (GroupNorm(groups, channels), nn.GroupNorm(groups, channels)),
        "gn of timm": (GroupNorm(groups, channels), TimmGroupNorm(channels, groups)),
        "in": (GroupNorm(channels, channels), nn.InstanceNorm2d(channels, affine=True)),
        "in itself": (InstanceNorm(channels), nn.InstanceNorm2d(channels, affine=True)),
        "ln": (GroupNorm(1, channels), LayerNorm(channels)),
        "ln of timm": (LayerNorm(channels), GroupNorm1(channels)),
    }
    for name, (found, expected) in layers.items():
        found, expected = found.to(dtype), expected.to(dtype)
        settle(found)
        expected.load_state_dict(found.state_dict())
        close({name: found(x)}, {name: expected(x)}, 1e-5)
        close(gradients(found, x, x.square()), gradients(expected, x, x.square()), 1e-4)
    whole = F.layer_norm(x, (channels, side, side))
    close({"ln": LayerNorm(channels).to(dtype)(x)}, {"ln": whole}, 1e-5)


def test_affine_of_layer_norm_is_by_channel() -> None:
    """Unlike torch.nn.LayerNorm over (C, H, W), which has a weight per pixel: timm's LayerNormAct on rows."""
    layer = LayerNorm(6)
    settle(layer)
    rows = LayerNormAct(6, apply_act=False)
    rows.load_state_dict(layer.state_dict())
    x = images(5, 6)
    close({"y": layer(x)}, {"y": rows(x)}, 1e-5)


@pytest.mark.parametrize(
    ("norm", "numbers"), [("in", {}), ("gn", {"groups": 8}), ("gn", {"channels_per_group": 1})]
)
@pytest.mark.parametrize("shape", [(4, 8, 1, 1), (8, 8)])
def test_one_channel_on_one_pixel_is_refused(
    norm: str, numbers: dict[str, int], shape: tuple[int, ...]
) -> None:
    """It would be zeroed, in train and in eval mode; two channels a group are normalised."""
    model = nn.Sequential((nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(8))
    found = convert(model, norm, **numbers)
    for mode in (True, False):
        with pytest.raises(BnrecalError, match="0: a group of one channel on a map of one pixel"):
            found.train(mode)(images(*shape))
    assert convert(model, "gn", channels_per_group=2)(images(*shape)).abs().max() > 0.5


def test_groups() -> None:
    """A number of groups, or channels per group, that divide; 32 groups unless told; otherwise one line."""
    model = nn.Sequential(nn.BatchNorm2d(64))
    assert convert(model, "gn")[0].num_groups == 32
    assert convert(model, "gn", groups=4)[0].num_groups == 4
    assert convert(model, "gn", channels_per_group=16)[0].num_groups == 4
    small = nn.Sequential(nn.Conv2d(3, 12, 1), nn.BatchNorm2d(12))
    with pytest.raises(
        BnrecalError, match=r"^1: 12 channels do not divide into 32 groups; valid: 1, 2, 3, 4"
    ):
        convert(small, "gn")
    with pytest.raises(BnrecalError, match=r"^1: 12 channels do not divide into groups of 5 channels"):
        convert(small, "gn", channels_per_group=5)
    with pytest.raises(BnrecalError, match="give one of them"):
        convert(small, "gn", groups=4, channels_per_group=3)


@pytest.mark.parametrize("norm", ["gn", "ln", "in"])
def test_bfloat16_autocast(norm: str) -> None:
    """The same as torch's own layer under autocast, in output and type."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    found = convert(model, norm, **({"groups": 4} if norm == "gn" else {}))
    plain = nn.Sequential(found[0], nn.GroupNorm({"gn": 4, "ln": 1, "in": 8}[norm], 8))
    x = images(2, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        y, expected = found(x), plain(x)
    assert y.dtype == expected.dtype
    close({"y": y.float()}, {"y": expected.float()}, 1e-2)


def test_frozen_is_constant() -> None:
    """torchvision's FrozenBatchNorm2d in output; no parameters, the same in both modes, statistics kept."""
    model = nn.Sequential(nn.BatchNorm2d(5))
    settle(model[0])
    found = convert(model, "frozen")
    theirs = FrozenBatchNorm2d(5)
    theirs.load_state_dict(model[0].state_dict())
    x = images(4, 5, 3, 3)
    before = copy.deepcopy(found.state_dict())
    assert list(found.parameters()) == []
    for mode in (True, False):
        close({"y": found.train(mode)(x)}, {"y": theirs(x)}, 1e-5)
    close(found.state_dict(), before, 0)
    fresh = FrozenBatchNorm(5)
    fresh.load_state_dict(model[0].state_dict())
    close({"y": fresh(x)}, {"y": model.eval()(x)}, 1e-6)


@pytest.mark.parametrize("norm", ["gn", "ln", "in"])
@pytest.mark.parametrize("far", [0.0, 100.0])
def test_channels_last_is_no_less_accurate(norm: str, far: float) -> None:
    """Outputs and gradients of N(far, 1) in float32 beside float64 (torch's kernel is 1e-2 off there)."""
    model = nn.Sequential(nn.BatchNorm2d(32))
    settle(model[0])
    found = convert(model, norm, **({"groups": 8} if norm == "gn" else {}))
    x = torch.randn(4, 32, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + far
    x = x.float().double()
    expected, wide = copy.deepcopy(found).double()(x), gradients(copy.deepcopy(found).double(), x, x.sin())
    last = x.float().to(memory_format=torch.channels_last)
    y = found(last)
    assert y.is_contiguous(memory_format=torch.channels_last)
    close({"y": y.double()}, {"y": expected}, 2e-4)
    narrow = gradients(found, last, last.sin())
    close({name: g.double() for name, g in narrow.items()}, wide, 1e-3)
