"""Batch Renormalization against the paper's formulas, BatchNorm and a loop over groups."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bnrecal.errors import BnrecalError
from bnrecal.norms import BatchRenorm1d, BatchRenorm2d, BatchRenorm3d, convert
from tests.norms.layers import by_groups, close, gradients, images, net, settle

SHAPES = {"1d": (BatchRenorm1d, (5,)), "1d with length": (BatchRenorm1d, (5, 7))}
SHAPES |= {"2d": (BatchRenorm2d, (5, 3, 4)), "3d": (BatchRenorm3d, (5, 2, 3, 2))}


def by_the_paper(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(output, mu, sigma) of algorithm 1, in plain operations."""
    dims = [0, *range(2, x.dim())]
    shape = (1, -1, *[1] * (x.dim() - 2))
    mean = x.mean(dims)
    sigma = (x.var(dims, correction=0) + layer.eps).sqrt()
    r = (sigma / layer.running_std).detach().clamp(1 / layer.rmax, layer.rmax)
    d = ((mean - layer.running_mean) / layer.running_std).detach().clamp(-layer.dmax, layer.dmax)
    hat = (x - mean.view(shape)) / sigma.view(shape) * r.view(shape) + d.view(shape)
    a = layer.momentum
    new_mean = layer.running_mean + a * (mean.detach() - layer.running_mean)
    new_sigma = layer.running_std + a * (sigma.detach() - layer.running_std)
    return hat * layer.weight.view(shape) + layer.bias.view(shape), new_mean, new_sigma


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", SHAPES)
@given(
    n=st.integers(2, 9),
    rmax=st.sampled_from([1.0, 1.1, 3.0, math.inf]),
    dmax=st.sampled_from([0.0, 0.1, 5.0, math.inf]),
    momentum=st.sampled_from([0.01, 0.3, 1.0]),
    seed=st.integers(0, 99),
)
@settings(max_examples=15, deadline=None)
def test_train_mode_is_algorithm_1(
    case: str,
    dtype: torch.dtype,
    channels_last: bool,
    n: int,
    rmax: float,
    dmax: float,
    momentum: float,
    seed: int,
) -> None:
    """Output, every gradient and the running statistics of the paper's formulas, in plain operations."""
    kind, shape = SHAPES[case]
    torch.manual_seed(seed)
    layer = kind(shape[0], momentum=momentum, rmax=rmax, dmax=dmax).to(dtype)
    settle(layer)
    x, upstream = (images(n, *shape, dtype=dtype, seed=seed + k) for k in (0, 1))
    if channels_last and len(shape) > 2:
        formats = {3: torch.channels_last, 4: torch.channels_last_3d}
        x = x.to(memory_format=formats[len(shape)])
    wanted = x.detach().clone().requires_grad_()
    output, mean, sigma = by_the_paper(layer, wanted)
    (output * upstream).sum().backward()
    assert wanted.grad is not None
    expected = {"input": wanted.grad, "weight": layer.weight.grad, "bias": layer.bias.grad}
    twin = copy.deepcopy(layer)
    close({"y": twin(x)}, {"y": output}, 1e-5)
    close({"mean": twin.running_mean, "sigma": twin.running_std}, {"mean": mean, "sigma": sigma}, 1e-5)
    assert twin.num_batches_tracked == 1
    close(gradients(layer, x, upstream), expected, 1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_room_it_is_batchnorm(dtype: torch.dtype) -> None:
    """rmax 1, dmax 0: the outputs and gradients of BatchNorm in train mode (oracle: torch's)."""
    plain, x, upstream = net(dtype), images(6, 3, 9, 9, dtype=dtype), images(6, 4, 4, 4, dtype=dtype)
    found = convert(plain, "brn")
    close({"y": copy.deepcopy(found)(x)}, {"y": copy.deepcopy(plain)(x)}, 1e-5)
    close(gradients(found, x, upstream), gradients(plain, x, upstream), 1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_bounds_train_mode_is_eval_mode_before_the_step(dtype: torch.dtype) -> None:
    layer = BatchRenorm2d(5, rmax=math.inf, dmax=math.inf).to(dtype)
    settle(layer)
    x = images(4, 5, 3, 4, dtype=dtype)
    before = copy.deepcopy(layer).eval()(x)
    close({"y": layer.train()(x)}, {"y": before}, 1e-5)


def test_eval_mode_uses_sigma_with_no_further_eps() -> None:
    """gamma (x - mu) / sigma + beta, also where sigma is small beside eps."""
    layer = BatchRenorm2d(1, eps=0.1).double().eval()
    layer.running_mean.fill_(2.0)
    layer.running_std.fill_(0.01)
    assert layer(torch.full((1, 1, 1, 1), 3.0, dtype=torch.float64)).item() == pytest.approx(100.0)


@pytest.mark.parametrize("rmax", [1.5, 3.0])
def test_gradient_is_r_times_batchnorms(rmax: float) -> None:
    """With weight 1: dx = r dx_BN, channel by channel; all but without eps, sum dx = 0 and sum x dx = 0."""
    layer = BatchRenorm2d(5, eps=1e-14, rmax=rmax, dmax=1.0, affine=False).double()
    layer.running_std.copy_(torch.tensor([0.5, 1.5, 2.0, 3.0, 9.0]))
    x, upstream = images(4, 5, 3, 4, dtype=torch.float64), images(4, 5, 3, 4, dtype=torch.float64, seed=2)
    plain = nn.BatchNorm2d(5, eps=1e-14, affine=False).double()
    sigma = x.var((0, 2, 3), correction=0).sqrt()
    r = (sigma / layer.running_std).clamp(1 / rmax, rmax).view(1, -1, 1, 1)
    assert r.unique().numel() > 1
    found = gradients(layer, x, upstream)["input"]
    close({"x": found}, {"x": r * gradients(plain, x, upstream)["input"]}, 1e-9)
    assert found.sum((0, 2, 3)).abs().max() < 1e-10
    assert (x * found).sum((0, 2, 3)).abs().max() < 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_constant_input_does_not_blow_up(dtype: torch.dtype) -> None:
    """A thousand steps on one value: outputs and sigma stay finite, sigma goes to sqrt(eps)."""
    layer = BatchRenorm2d(3, rmax=3.0, dmax=5.0, momentum=0.02)
    x = torch.full((2, 3, 4, 4), 7.0, dtype=dtype)
    for _ in range(1000):
        y = layer(x)
        assert y.dtype == dtype
        assert y.abs().max() <= 5
    assert layer.running_std.tolist() == pytest.approx([math.sqrt(layer.eps)] * 3, rel=1e-3)


def test_half_precision_keeps_statistics_of_large_values() -> None:
    """float16 inputs whose squares overflow: mean and sigma as of the same values in float64."""
    x = images(8, 3, 6, 6).mul(200).add(1000).half()
    layer = BatchRenorm2d(3, momentum=1.0, rmax=3.0, dmax=5.0)
    assert layer(x).isfinite().all()
    wide = x.double()
    assert torch.allclose(layer.running_mean.double(), wide.mean((0, 2, 3)), rtol=1e-4)
    assert torch.allclose(layer.running_std.double(), wide.std((0, 2, 3), correction=0), rtol=1e-4)


def test_bfloat16_autocast_trains() -> None:
    """Under autocast: bfloat16 outputs near the float32 ones, float32 statistics, finite gradients."""
    found = convert(net(), "brn", rmax=3.0, dmax=5.0)
    x = images(8, 3, 9, 9)
    expected = copy.deepcopy(found)(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = found(x)
    y.float().square().sum().backward()
    assert y.dtype == torch.bfloat16
    close({"y": y.float()}, {"y": expected}, 0.05)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in found.parameters())
    assert found[1].running_std.dtype == torch.float32


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(
    n=st.integers(1, 4),
    g=st.integers(1, 5),
    bounds=st.sampled_from([(1.0, 0.0), (1.2, 0.3), (3.0, 5.0)]),
    momentum=st.sampled_from([0.01, 0.5, None]),
    affine=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_groups_are_batches_one_after_another(
    dtype: torch.dtype,
    channels_last: bool,
    n: int,
    g: int,
    bounds: tuple[float, float],
    momentum: float | None,
    affine: bool,
) -> None:
    """norm_batch: each group corrected by what the groups before it left, outputs, gradients, statistics."""
    torch.manual_seed(0)
    plain = BatchRenorm2d(5, momentum=momentum, rmax=bounds[0], dmax=bounds[1], affine=affine).to(dtype)
    settle(plain)
    found = copy.deepcopy(plain)
    found.norm_batch = n
    x, upstream = (images(n * g, 5, 3, 4, dtype=dtype, seed=k) for k in (0, 1))
    outputs, wanted = by_groups(plain, x, upstream, n)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    twin = copy.deepcopy(found)
    close({"y": twin(x)}, {"y": outputs}, 1e-5)
    close(dict(twin.named_buffers()), dict(plain.named_buffers()), 1e-5)
    close(gradients(found, x, upstream), wanted, 1e-4)


def test_bounds_are_set_while_training() -> None:
    """rmax and dmax take effect at the next forward; a bound without room for r = 1, d = 0 is refused."""
    layer, x = BatchRenorm2d(3), images(4, 3, 5, 5)
    first = copy.deepcopy(layer)(x)
    layer.rmax, layer.dmax = 3.0, 5.0
    assert not torch.allclose(layer(x), first, atol=1e-3)
    layer.rmax = 0.9
    with pytest.raises(BnrecalError, match=r"rmax=0\.9; valid from 1 on"):
        layer(x)
    with pytest.raises(BnrecalError, match="dmax=-1"):
        BatchRenorm2d(3, dmax=-1)
    with pytest.raises(BnrecalError, match="rmax=nan"):
        BatchRenorm2d(3, rmax=math.nan)


def test_state_dict_and_reset() -> None:
    """running_std is the buffer, running_var what it says of the variance; reset gives mean 0, sigma 1."""
    layer = BatchRenorm2d(3)
    names = ["weight", "bias", "running_mean", "running_std", "num_batches_tracked"]
    assert list(layer.state_dict()) == names
    assert (layer.eps, layer.momentum, layer.rmax, layer.dmax) == (1e-3, 0.01, 1.0, 0.0)
    layer(images(4, 3, 5, 5))
    assert torch.allclose(layer.running_var, layer.running_std**2 - 1e-3)
    layer.reset_running_stats()
    assert layer.running_std.tolist() == [1.0] * 3
    assert layer.running_mean.tolist() == [0.0] * 3
    assert layer.num_batches_tracked == 0


def test_single_values_are_refused() -> None:
    with pytest.raises(BnrecalError, match="one value per channel has no variance"):
        BatchRenorm1d(3)(images(1, 3))
