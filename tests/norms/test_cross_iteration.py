"""Cross-Iteration BatchNorm against a plain loop with torch.autograd, BatchNorm and pooled statistics."""

import copy
import io
import pickle
from collections import deque
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from bnrecal.errors import BnrecalError
from bnrecal.norms import CrossIterationBatchNorm2d, convert
from tests.norms.layers import by_groups, close, gradients, images, net, settle


class Oracle(nn.Module):
    """The paper's layer for one convolution, by torch.autograd and E[y^2], one channel after another."""

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d, window: int) -> None:
        super().__init__()
        self.convolution, self.norm = convolution, norm
        self.past: deque[tuple[Tensor, ...]] = deque(maxlen=window - 1)

    def forward(self, x: Tensor) -> Tensor:
        conv, norm = self.convolution, self.norm
        y = conv(x)
        mu, nu = y.mean((0, 2, 3)), y.square().mean((0, 2, 3))
        means, squares = [mu], [nu]
        for weight, old_mu, old_nu, d_mu, d_nu in self.past:
            delta = conv.weight.detach() - weight
            means.append(old_mu + (d_mu * delta).sum((1, 2, 3)))
            squares.append(torch.maximum(old_nu + (d_nu * delta).sum((1, 2, 3)), means[-1].square()))
        mean, square = torch.stack(means).mean(0), torch.stack(squares).mean(0)
        slopes = [torch.autograd.grad(each.sum(), conv.weight, retain_graph=True)[0] for each in (mu, nu)]
        self.past.append((conv.weight.detach().clone(), mu.detach(), nu.detach(), *slopes))
        var = (square - mean.square()).view(1, -1, 1, 1)
        hat = (y - mean.view(1, -1, 1, 1)) / (var + norm.eps).sqrt()
        return hat * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)


CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "plain": {"bias": False},
    "with bias": {},
    "strided": {"stride": 2, "padding": 1, "bias": False},
    "dilated": {"dilation": 2, "padding": "same", "bias": False},
    "grouped": {"groups": 2, "bias": False},
    "depthwise": {"groups": 4, "padding": 1, "bias": False},
    "circular": {"padding": 1, "padding_mode": "circular", "bias": False},
}


def one_layer(case: str = "plain", dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 8, 3, **CONVOLUTIONS[case]), nn.BatchNorm2d(8)).to(dtype)
    settle(model[1])
    return model


def step(model: nn.Module, rate: float) -> None:
    """Move every parameter along its gradient."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= rate * parameter.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", CONVOLUTIONS)
@pytest.mark.parametrize("window", [1, 2, 4])
def test_training_is_that_of_the_paper(case: str, window: int, dtype: torch.dtype) -> None:
    """Seven steps with changing weights: outputs to 1e-5, gradients to 1e-4 of the oracle at every one."""
    model = one_layer(case, dtype)
    oracle = Oracle(*copy.deepcopy(model), window)
    found = convert(model, "cbn", window=window)
    for k in range(7):
        x = images(6, 4, 7, 7, dtype=dtype, seed=k)
        for each in (found, oracle):
            each.zero_grad()
        y, expected = found(x), oracle(x)
        close({"y": y}, {"y": expected}, 1e-5)
        upstream = images(*y.shape, dtype=dtype, seed=k + 50)
        (y * upstream).sum().backward()
        (expected * upstream).sum().backward()
        for mine, theirs in zip(found.parameters(), oracle.parameters(), strict=True):
            close({"p": mine.grad}, {"p": theirs.grad}, 1e-4)
        for each in (found, oracle):
            step(each, 1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm", ["cbn", "naive-cbn"])
def test_window_of_one_is_batchnorm(norm: str, dtype: torch.dtype) -> None:
    """Outputs, gradients and running statistics of torch's BatchNorm over several steps."""
    plain = net(dtype)
    found = convert(plain, norm, window=1)
    for k in range(3):
        x, upstream = images(6, 3, 9, 9, dtype=dtype, seed=k), images(6, 4, 4, 4, dtype=dtype, seed=k + 9)
        close(gradients(found, x, upstream), gradients(plain, x, upstream), 1e-4)
        step(found, 0.01)
        step(plain, 0.01)
    wanted = dict(plain.named_buffers())
    close({name: dict(found.named_buffers())[name] for name in wanted}, wanted, 1e-5)
    close({"y": found.eval()(x)}, {"y": plain.eval()(x)}, 1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_same_input_and_other_weights(dtype: torch.dtype) -> None:
    """The compensated mean is exact; E[y^2] is short by E[(dw * x)^2], channel by channel."""
    model = convert(one_layer(dtype=dtype), "cbn", window=2)
    convolution, layer = model
    x = images(5, 4, 7, 7, dtype=dtype)
    model(x)
    change = images(*convolution.weight.shape, dtype=dtype, seed=7) * 0.01
    with torch.no_grad():
        convolution.weight += change
        y = convolution(x)
        extra = nn.functional.conv2d(x, change)
    mean, var, n = layer._past(dtype)
    assert n == 1
    assert (var > 0).all()  # so that no bound is at work
    close({"mean": mean[0]}, {"mean": y.mean((0, 2, 3))}, 1e-5)
    short = y.square().mean((0, 2, 3)) - (var[0] + mean[0].square())
    close({"short": short}, {"short": extra.square().mean((0, 2, 3))}, 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm", ["cbn", "naive-cbn"])
@given(window=st.integers(1, 5), n_steps=st.integers(1, 8))
@settings(max_examples=15, deadline=None)
def test_unchanged_weights_pool_the_window(norm: str, dtype: torch.dtype, window: int, n_steps: int) -> None:
    """The last batch is normalised by mean and biased variance of all values of the last `window` batches."""
    model = convert(one_layer(dtype=dtype), norm, window=window)
    batches = [images(3, 4, 7, 7, dtype=dtype, seed=k) for k in range(n_steps)]
    for x in batches:
        y = model(x)
    with torch.no_grad():
        kept = torch.cat([model[0](x) for x in batches[-window:]])
        now = model[0](batches[-1])
    mean, var = kept.mean((0, 2, 3)), kept.var((0, 2, 3), correction=0)
    expected = nn.functional.batch_norm(now, mean, var, model[1].weight, model[1].bias, False, 0.0, 1e-5)
    close({"y": y}, {"y": expected}, 1e-5)


def test_far_means_do_not_cancel() -> None:
    """Outputs of mean 3,000 standard deviations in float32: the pooled variance is right to 1 %."""
    model = convert(one_layer("with bias", torch.float32), "cbn", window=3)
    with torch.no_grad():
        model[0].bias += 10000
    batches = [images(16, 4, 7, 7, seed=k) for k in range(3)]
    for x in batches:
        y = model(x)
    wide = copy.deepcopy(model[0]).double()
    kept = torch.cat([wide(x.double()) for x in batches])
    hat = (wide(batches[-1].double()) - kept.mean((0, 2, 3), keepdim=True)) / kept.std(
        (0, 2, 3), keepdim=True
    )
    expected = hat * model[1].weight.view(1, -1, 1, 1) + model[1].bias.view(1, -1, 1, 1)
    close({"y": y.double()}, {"y": expected}, 1e-2)


def test_no_nan_where_a_compensated_variance_is_negative() -> None:
    """Weights scaled to nothing: the Taylor term alone says -v, which counts as 0."""
    model = convert(one_layer(dtype=torch.float32), "cbn", window=3)
    for k in range(2):
        model(images(3, 4, 7, 7, seed=k))
    with torch.no_grad():
        model[0].weight *= -5
    _, var, _ = model[1]._past(torch.float32)
    assert (var == 0).any()
    y = model(images(3, 4, 7, 7, seed=2))
    y.sum().backward()
    assert y.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_burn_in() -> None:
    """Batches within it are normalised by themselves and not kept; set anew, it takes effect at once."""
    model = convert(one_layer(dtype=torch.float32), "cbn", window=4, burn_in=2)
    layer = model[1]
    plain = nn.Sequential(model[0], copy.deepcopy(one_layer(dtype=torch.float32)[1]))
    for k in range(2):
        x = images(3, 4, 7, 7, seed=k)
        close({"y": model(x)}, {"y": plain(x)}, 1e-5)
    assert layer.n_kept == 0
    model(images(3, 4, 7, 7, seed=2))
    assert layer.n_kept == 1
    layer.burn_in = 4
    x = images(3, 4, 7, 7, seed=3)
    close({"y": model(x)}, {"y": plain(x)}, 1e-5)
    assert layer.n_kept == 1
    layer.reset_past()
    assert (layer.n_seen, layer.n_kept) == (0, 0)


@pytest.mark.parametrize("norm", ["cbn", "naive-cbn"])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(
    n=st.integers(1, 3),
    g=st.integers(1, 5),
    window=st.integers(1, 4),
    burn_in=st.integers(0, 7),
    momentum=st.sampled_from([0.1, None]),
)
@settings(max_examples=10, deadline=None)
def test_groups_are_batches_one_after_another(
    norm: str,
    channels_last: bool,
    dtype: torch.dtype,
    n: int,
    g: int,
    window: int,
    burn_in: int,
    momentum: float | None,
) -> None:
    """norm_batch over two steps with a change of weights between: outputs, gradients, every buffer."""
    start = one_layer(dtype=dtype)
    start[1].momentum = momentum
    plain = convert(start, norm, window=window, burn_in=burn_in)
    found = convert(start, norm, window=window, burn_in=burn_in, norm_batch=n)
    if channels_last:
        found = found.to(memory_format=torch.channels_last)
    for k in range(2):
        x, upstream = (images(n * g, c, s, s, dtype=dtype, seed=k) for c, s in ((4, 7), (8, 5)))
        outputs, wanted = by_groups(plain, x, upstream, n)
        if channels_last:
            x = x.to(memory_format=torch.channels_last)
        twin = copy.deepcopy(found)
        close({"y": twin(x)}, {"y": outputs}, 1e-5)
        close(gradients(found, x, upstream), wanted, 1e-4)
        close(dict(found.named_buffers()), dict(plain.named_buffers()), 1e-4)
        step(found, 1e-3)
        step(plain, 1e-3)


def test_bfloat16_autocast() -> None:
    """Near the float32 network over several steps, what is kept stays float32, gradients are finite."""
    wide = convert(one_layer(dtype=torch.float32), "cbn", window=3)
    found = copy.deepcopy(wide)
    for k in range(4):
        x = images(6, 4, 7, 7, seed=k)
        expected = wide(x)
        with torch.autocast("cpu", torch.bfloat16):
            y = found(x)
        assert y.dtype == torch.bfloat16
        close({"y": y.float()}, {"y": expected}, 0.05)
    y.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in found.parameters())
    kept = {name: b for name, b in found.named_buffers() if "past" in name}
    assert len(kept) == 5
    assert all(b.dtype == torch.float32 for b in kept.values())


def test_resumed_to_the_bit() -> None:
    """Saved and loaded into a newly converted network, training goes on bit for bit."""
    found = convert(one_layer(dtype=torch.float32), "cbn", window=3, burn_in=1)
    for k in range(3):
        found(images(3, 4, 7, 7, seed=k))
    file = io.BytesIO()
    torch.save(found.state_dict(), file)
    file.seek(0)
    other = convert(one_layer(dtype=torch.float32), "cbn", window=3, burn_in=1)
    other.load_state_dict(torch.load(file, weights_only=True))
    x = images(3, 4, 7, 7, seed=3)
    assert torch.equal(other(x), found(x))


def test_copies_have_convolutions_of_their_own() -> None:
    """Deep copies and pickled ones listen to their own convolution, also when copied between forwards."""
    found = convert(one_layer(dtype=torch.float32), "cbn", window=3)
    found[0](images(3, 4, 7, 7))  # the layer itself not called
    copied, thawed = copy.deepcopy(found), pickle.loads(pickle.dumps(found))
    for other in (copied, thawed):
        with torch.no_grad():
            other[0].weight += 1
        other(images(3, 4, 7, 7))
        assert torch.equal(other[1].past_weight[0], other[0].weight.flatten(1))
    assert found[1].n_kept == 0


class ByKeyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(input=self.conv(input=x))


def test_calls_by_keyword() -> None:
    """Found and listened to like any other."""
    found = convert(ByKeyword(), "cbn")
    found(images(2, 3, 4, 4))
    assert found.norm.n_kept == 1


class Branching(nn.Module):
    """A flow that torch.fx cannot follow; what feeds the norm depends on `swapped`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.swapped = False

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 1e9:
            return x
        y = self.conv(x)
        return self.norm(y * 2 if self.swapped else y)


class PreActivation(nn.Module):
    """conv1, then norm2: the order of modules tells something else than the flow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.norm1, self.norm2 = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm2(self.conv2(self.norm1(self.conv1(x))))


def test_the_convolution_is_found_by_the_flow_of_data() -> None:
    found = convert(PreActivation(), "cbn")
    assert found.norm1._convolution == (found.conv1,)
    assert found.norm2._convolution == (found.conv2,)


def test_where_the_flow_cannot_be_followed_order_decides_and_each_forward_checks() -> None:
    found = convert(Branching(), "cbn")
    assert found.norm._convolution == (found.conv,)
    found(images(2, 3, 4, 4))
    found.swapped = True
    with pytest.raises(BnrecalError, match="norm: its input is not the output of the convolution"):
        found(images(2, 3, 4, 4))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)), "^2: cbn needs the convolution"),
        (nn.Sequential(nn.BatchNorm2d(4)), "^0: cbn needs the convolution"),
        (nn.BatchNorm2d(4), "^the model: cbn needs the convolution"),
        (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), "^1: cbn needs the convolution"),
        (nn.Sequential(Conv2dSame(3, 4, 3), nn.BatchNorm2d(4)), "^1: .* a Conv2dSame does more"),
    ],
)
def test_layers_without_a_convolution_are_refused_by_name(model: nn.Module, message: str) -> None:
    with pytest.raises(BnrecalError, match=message):
        convert(model, "cbn")


def test_naive_needs_no_convolution_but_two_dimensions() -> None:
    x = images(3, 4, 5, 5)
    assert convert(nn.Sequential(nn.BatchNorm2d(4)), "naive-cbn")(x).isfinite().all()
    with pytest.raises(BnrecalError, match=r"^0: cbn and naive-cbn take the place of BatchNorm2d"):
        convert(nn.Sequential(nn.BatchNorm1d(4)), "naive-cbn")


def test_reparametrised_weights_count_as_they_are() -> None:
    """A convolution under weight_norm: the kept weight is the effective one."""
    model = nn.Sequential(weight_norm(nn.Conv2d(3, 4, 1)), nn.BatchNorm2d(4))
    found = convert(model, "cbn", window=2)
    found(images(3, 3, 5, 5))
    assert torch.equal(found[1].past_weight[0], found[0].weight.flatten(1))


def test_conversion_away_leaves_no_hook() -> None:
    """Converted on to another norm, the convolution is no longer listened to."""
    found = convert(convert(one_layer(dtype=torch.float32), "cbn"), "bn")
    assert not found[0]._forward_hooks
    assert type(found[1]) is nn.BatchNorm2d


@pytest.mark.parametrize("numbers", [{"window": 0}, {"window": 2.5}, {"burn_in": -1}, {"window": True}])
def test_numbers_out_of_range(numbers: dict[str, Any]) -> None:
    with pytest.raises(BnrecalError, match=f"{next(iter(numbers))}=.*a whole number from"):
        convert(one_layer(), "cbn", **numbers)
    with pytest.raises(BnrecalError, match="a whole number from"):
        CrossIterationBatchNorm2d(4, compensate=False, **numbers)
    with pytest.raises(BnrecalError, match="needs the convolution"):
        CrossIterationBatchNorm2d(4)


def test_a_window_of_one_needs_no_convolution() -> None:
    """There is no past to compensate: BatchNorm, by itself."""
    x = images(3, 4, 5, 5)
    close({"y": CrossIterationBatchNorm2d(4, window=1)(x)}, {"y": nn.BatchNorm2d(4)(x)}, 1e-5)
