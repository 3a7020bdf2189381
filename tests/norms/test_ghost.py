"""norm_batch for BatchNorm: g groups in one forward are g forwards."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bnrecal.errors import BnrecalError
from bnrecal.norms import GhostBatchNorm1d, GhostBatchNorm2d, GhostBatchNorm3d, convert
from tests.norms.layers import by_groups, close, gradients, images, net, settle

LAYERS = {
    "1d": (nn.BatchNorm1d, GhostBatchNorm1d, (5,)),
    "1d with length": (nn.BatchNorm1d, GhostBatchNorm1d, (5, 7)),
    "2d": (nn.BatchNorm2d, GhostBatchNorm2d, (5, 3, 4)),
    "3d": (nn.BatchNorm3d, GhostBatchNorm3d, (5, 2, 3, 2)),
}


def pair(
    case: str, n: int, dtype: torch.dtype, momentum: float | None, affine: bool
) -> tuple[nn.Module, nn.Module]:
    plain, ghost, shape = LAYERS[case]
    torch.manual_seed(0)
    expected = plain(shape[0], momentum=momentum, affine=affine).to(dtype)
    settle(expected)
    found = ghost(shape[0], momentum=momentum, affine=affine, norm_batch=n).to(dtype)
    found.load_state_dict(expected.state_dict())
    return found, expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", LAYERS)
@given(
    n=st.integers(2, 5),
    g=st.integers(1, 5),
    momentum=st.sampled_from([0.1, 0.01, 1.0, None]),
    affine=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=20, deadline=None)
def test_groups_in_one_forward_are_forwards_one_after_another(
    case: str, dtype: torch.dtype, n: int, g: int, momentum: float | None, affine: bool, seed: int
) -> None:
    """Outputs to 1e-5, gradients to 1e-4, running statistics and their counter as the loop leaves them."""
    found, expected = pair(case, n, dtype, momentum, affine)
    x = images(n * g, *LAYERS[case][2], dtype=dtype, seed=seed)
    upstream = images(n * g, *LAYERS[case][2], dtype=dtype, seed=seed + 1)
    outputs, wanted = by_groups(expected, x, upstream, n)
    twin = copy.deepcopy(found)
    close({"output": twin(x)}, {"output": outputs}, 1e-5)
    close(dict(twin.named_buffers()), dict(expected.named_buffers()), 1e-5)
    close(gradients(found, x, upstream), wanted, 1e-4)


@pytest.mark.parametrize("channels_last", [False, True])
def test_network_with_norm_batch(channels_last: bool) -> None:
    """A whole network: outputs, gradients, statistics of the loop, in either memory format, which stays."""
    plain = net().train()
    found = convert(plain, "bn", norm_batch=2)
    x, upstream = images(8, 3, 9, 9), images(8, 4, 4, 4)
    outputs, wanted = by_groups(plain, x, upstream, 2)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
        found = found.to(memory_format=torch.channels_last)
    twin = copy.deepcopy(found)
    y = twin(x)
    close({"output": y}, {"output": outputs}, 1e-5)
    close(dict(twin.named_buffers()), dict(plain.named_buffers()), 1e-5)
    close(gradients(found, x, upstream), wanted, 1e-4)
    if channels_last:
        assert y.is_contiguous(memory_format=torch.channels_last)


def test_bfloat16_autocast() -> None:
    """Under autocast the groups are those of the loop under autocast, statistics kept in float32."""
    plain = net().train()
    found = convert(plain, "bn", norm_batch=4)
    x = images(8, 3, 9, 9)
    with torch.autocast("cpu", torch.bfloat16):
        expected = torch.cat([plain(group) for group in x.split(4)])
        y = found(x)
    assert y.dtype == expected.dtype == torch.bfloat16
    close({"output": y.float()}, {"output": expected.float()}, 0.02)
    close(dict(found.named_buffers()), dict(plain.named_buffers()), 1e-2)
    assert all(b.dtype == torch.float32 for n, b in found.named_buffers() if "running" in n)


def test_weights_go_to_and_fro() -> None:
    """The state dict is the plain network's by names and meaning; in eval mode both compute the same."""
    plain = net()
    found = convert(plain, "bn", norm_batch=2).train()
    found(images(4, 3, 9, 9))
    assert list(found.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(found.state_dict())
    x = images(3, 3, 9, 9)
    assert torch.equal(found.eval()(x), plain.eval()(x))


def test_only_whole_multiples() -> None:
    """One line that names the layer, the images and the norm batch."""
    found = convert(net(), "bn", norm_batch=4).train()
    with pytest.raises(BnrecalError, match=r"^1: 6 images are no whole multiple of norm_batch=4"):
        found(images(6, 3, 9, 9))


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "2"])
def test_norm_batch_is_a_number_of_images(value: object) -> None:
    with pytest.raises(BnrecalError, match="norm_batch="):
        convert(net(), "bn", norm_batch=value)


def test_one_value_per_channel_is_refused() -> None:
    """A group of one image of one pixel has no variance; with two pixels it has."""
    found = convert(nn.Sequential(nn.BatchNorm2d(3)), "bn", norm_batch=1).train()
    with pytest.raises(BnrecalError, match="0: one value per channel has no variance"):
        found(images(4, 3, 1, 1))
    assert found(images(4, 3, 1, 2)).isfinite().all()


def test_batch_of_one_is_instance_norm() -> None:
    """Batch 1: BatchNorm equals InstanceNorm in train mode (oracle: torch's)."""
    x = images(6, 5, 3, 4)
    found: Tensor = GhostBatchNorm2d(5, norm_batch=1)(x)
    close({"y": found}, {"y": nn.InstanceNorm2d(5)(x)}, 1e-5)


def test_untracked_layers_keep_normalising_by_batch() -> None:
    """track_running_stats=False: groups in train mode, the whole batch in eval mode, as plain."""
    plain = nn.BatchNorm2d(3, track_running_stats=False)
    found = convert(plain, "bn", norm_batch=2)
    x = images(4, 3, 5, 5)
    close({"y": found.eval()(x)}, {"y": plain.eval()(x)}, 1e-6)
    expected = torch.cat([plain.train()(group) for group in x.split(2)])
    close({"y": found.train()(x)}, {"y": expected}, 1e-5)
