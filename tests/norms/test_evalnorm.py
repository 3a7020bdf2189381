"""EvalNorm: evaluation by the statistics that a batch with this image in it has on average."""

import itertools

import pytest
import torch
from torch import Tensor, nn

import bnrecal
from bnrecal import BnrecalError
from bnrecal.norms import EvalNorm2d, GhostBatchNorm2d, convert
from tests.norms.layers import close, images, net, settle

LAYERS = {
    "1d": (nn.BatchNorm1d, (3,)),
    "1d with length": (nn.BatchNorm1d, (3, 4)),
    "2d": (nn.BatchNorm2d, (3, 2, 2)),
    "3d": (nn.BatchNorm3d, (3, 2, 1, 2)),
}


def by_every_companion(x: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """By counting, for images x drawn with equal chance: mean and biased variance of a batch of n with image
    i in it on average, (images, C) each; mean and unbiased variance of any batch on average, (C,) each.
    """
    values = x.flatten(2) if x.dim() > 2 else x[:, :, None]  # (images, C, pixels)
    with_each: list[tuple[Tensor, Tensor]] = []
    for first in range(len(x)):
        batches = [
            torch.cat([values[k] for k in (first, *others)], 1)
            for others in itertools.product(range(len(x)), repeat=n - 1)
        ]
        means = torch.stack([batch.mean(1) for batch in batches])
        variances = torch.stack([batch.var(1, correction=0) for batch in batches])
        with_each.append((means.mean(0), variances.mean(0)))
    mean, var = (torch.stack(parts) for parts in zip(*with_each, strict=True))
    n_values = n * values.shape[2]
    return mean, var, mean.mean(0), var.mean(0) * n_values / (n_values - 1)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("case", LAYERS)
def test_statistics_are_the_average_over_all_batches_with_this_image(case: str, n: int, affine: bool) -> None:
    """Every batch of n that 5 images can make is looked at: with the average of them all as running
    statistics, eval mode normalises image i by the average of those that hold it. Exact, in float64.
    """
    kind, shape = LAYERS[case]
    plain = kind(3, affine=affine, dtype=torch.float64)
    settle(plain)
    x = images(5, *shape, dtype=torch.float64)
    mean, var, running_mean, running_var = by_every_companion(x, n)
    plain.running_mean.copy_(running_mean)
    plain.running_var.copy_(running_var)
    found = convert(plain, "evalnorm", norm_batch=n).eval()
    to_pixels = (*mean.shape, *[1] * (x.dim() - 2))
    expected = (x - mean.view(to_pixels)) / (var.view(to_pixels) + plain.eps).sqrt()
    if affine:
        of_channel = (1, -1, *[1] * (x.dim() - 2))
        expected = expected * plain.weight.view(of_channel) + plain.bias.view(of_channel)
    close({"y": found(x)}, {"y": expected}, 1e-12)
    close({"alone": found(x[1:2])}, {"alone": expected[1:2]}, 1e-12)


def test_one_image_is_instance_norm_and_many_are_batchnorm() -> None:
    """norm_batch 1: torch's InstanceNorm; so many that one does not count: BatchNorm's own evaluation."""
    plain = nn.BatchNorm2d(5)
    settle(plain)
    x = images(4, 5, 3, 4)
    many = convert(plain, "evalnorm", norm_batch=10**7).eval()
    close({"y": many(x)}, {"y": plain.eval()(x)}, 1e-5)
    one = EvalNorm2d(5, norm_batch=1)
    close({"y": one.eval()(x)}, {"y": nn.InstanceNorm2d(5)(x)}, 1e-5)
    two = convert(plain, "evalnorm", norm_batch=2).eval()
    assert (two(x) - plain.eval()(x)).abs().max() > 0.1


def test_training_is_batchnorm_over_the_norm_batch() -> None:
    """Outputs and statistics are those of `bn` with the same norm batch, to the bit; names as well."""
    plain, x = net().train(), images(8, 3, 9, 9)
    found, expected = convert(plain, "evalnorm", norm_batch=2), convert(plain, "bn", norm_batch=2)
    assert torch.equal(found(x), expected(x))
    assert list(found.state_dict()) == list(plain.state_dict())
    assert all(torch.equal(v, expected.state_dict()[k]) for k, v in found.state_dict().items())


@pytest.mark.parametrize("channels_last", [False, True])
def test_bfloat16_autocast(channels_last: bool) -> None:
    """Statistics of bfloat16 activations are worked out in float32: near what float32 gives, same format."""
    found = convert(net().eval(), "evalnorm", norm_batch=2)
    x = images(4, 3, 9, 9)
    expected = found(x)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        y = found(x)
    assert y.dtype == torch.bfloat16
    close({"y": y.float()}, {"y": expected}, 0.03)
    far = EvalNorm2d(3, norm_batch=2).eval()
    far.running_mean.fill_(100.0)
    x = (images(4, 3, 8, 8) * 0.25 + 100).bfloat16()
    close({"y": far(x).float()}, {"y": far.double()(x.double()).float()}, 0.02)


def test_recalibrated_by_batches_of_its_size_it_is_consistent() -> None:
    """`cumulative` over batches of norm_batch gives the running statistics that the formula asks for;
    `pooled` gives the variance of all values, as for any BatchNorm.
    """
    layer = EvalNorm2d(2, norm_batch=2)
    x = images(8, 2, 2, 2)
    bnrecal.recalibrate(layer, list(x.split(2)), estimator="cumulative")
    expected = torch.stack([pair.transpose(0, 1).flatten(1).var(1) for pair in x.split(2)]).mean(0)
    assert layer.running_var is not None
    close({"var": layer.running_var}, {"var": expected}, 1e-6)
    bnrecal.recalibrate(layer, list(x.split(2)), estimator="pooled")
    close({"var": layer.running_var}, {"var": x.transpose(0, 1).flatten(1).var(1)}, 1e-6)


def test_what_it_cannot_do_is_one_line() -> None:
    """No norm batch; no running statistics; a single value, which has no variance."""
    with pytest.raises(BnrecalError, match=r"^evalnorm: needs norm_batch"):
        convert(net(), "evalnorm")
    with pytest.raises(BnrecalError, match=r"^1: evalnorm corrects running statistics"):
        convert(
            nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)),
            "evalnorm",
            norm_batch=2,
        )
    alone = convert(nn.Sequential(nn.BatchNorm2d(3)), "evalnorm", norm_batch=1).eval()
    with pytest.raises(BnrecalError, match="0: one value per channel has no variance"):
        alone(images(4, 3, 1, 1))
    assert alone(images(4, 3, 1, 2)).isfinite().all()


def test_back_to_batchnorm() -> None:
    """Converted back it is the plain network, and a GhostBatchNorm where that is asked for."""
    plain = net().eval()
    found = convert(plain, "evalnorm", norm_batch=2)
    x = images(3, 3, 9, 9)
    assert torch.equal(convert(found, "bn")(x), plain(x))
    assert type(convert(found, "bn", norm_batch=4)[1]) is GhostBatchNorm2d
