"""The update pass against the values worked out by hand and against PyTorch's own train mode."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnrecal.errors import BnrecalError
from bnrecal.recalibration.estimators import Cumulative, Ema, Estimator, Pooled
from bnrecal.recalibration.statistics import Statistics
from bnrecal.recalibration.walk import Walk

# Two batches of two one-pixel images: [0, 2] and [10, 14].
FIXTURE_A = [torch.tensor([0.0, 2.0]).view(2, 1, 1, 1), torch.tensor([10.0, 14.0]).view(2, 1, 1, 1)]
# Eight images of 0 in one batch, two of 10 in a short last one; 2 x 2 pixels.
RAGGED = [torch.zeros(8, 1, 2, 2), torch.full((2, 1, 2, 2), 10.0)]


def after(model: nn.Module, estimator: Estimator, batches: list[Tensor]) -> Statistics:
    with Walk(model, estimator) as walk:
        for batch in batches:
            walk.step(batch)
        return walk.statistics()


def small_net(seed: int = 0) -> nn.Sequential:
    """Three BatchNorms, the last with a dropout before it."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Conv2d(6, 2, 1),
        nn.BatchNorm2d(2),
    )


def everything(model: nn.Module) -> dict[str, Any]:
    """All that a caller could find changed."""
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = {name: module.training for name, module in model.named_modules()}
    momenta = {n: m.momentum for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    hooks = {n: len(m._forward_pre_hooks) + len(m._forward_hooks) for n, m in model.named_modules()}
    return {"state": state, "modes": modes, "momenta": momenta, "hooks": hooks}


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return (
        all(torch.equal(a["state"][name], b["state"][name]) for name in a["state"])
        and a["modes"] == b["modes"]
        and a["momenta"] == b["momenta"]
        and a["hooks"] == b["hooks"]
    )


@pytest.mark.parametrize(
    ("estimator", "mean", "var"),
    [
        (Ema(0.1), 1.29, 1.79),
        (Cumulative(), 6.5, 5.0),
        (Pooled(), 6.5, 43.666667),
        (Pooled(unbiased=False), 6.5, 32.75),
    ],
)
def test_values_of_fixture_a(estimator: Estimator, mean: float, var: float) -> None:
    """Each estimator's mean and variance, worked out by hand from mean 0 and variance 1."""
    found = after(nn.BatchNorm2d(1), estimator, FIXTURE_A)
    assert found.mean.item() == pytest.approx(mean, abs=1e-6)
    assert found.var.item() == pytest.approx(var, abs=1e-6)


def test_a_short_last_batch_weighs_what_it_holds() -> None:
    """Pooled weighs images (mean 2, variance 16); a plain mean of batches does not (5 and 0)."""
    pooled = after(nn.BatchNorm2d(1), Pooled(unbiased=False), RAGGED)
    assert (pooled.mean.item(), pooled.var.item()) == pytest.approx((2, 16))
    cumulative = after(nn.BatchNorm2d(1), Cumulative(), RAGGED)
    assert (cumulative.mean.item(), cumulative.var.item()) == pytest.approx((5, 0))


def test_ema_of_a_constant_input() -> None:
    """mean = c (1 - .9^T): after ten batches .6513 of the constant."""
    found = after(nn.BatchNorm2d(1), Ema(0.1), [torch.full((2, 1, 3, 3), 7.0)] * 10)
    assert found.mean.item() == pytest.approx(7 * (1 - 0.9**10), rel=1e-6)
    assert found.var.item() == pytest.approx(0.9**10, rel=1e-6)


def test_no_cancellation_far_from_zero() -> None:
    """N(10^4, 1) in float32: E[x^2] - E[x]^2 would give variance 0."""
    torch.manual_seed(0)
    x = torch.randn(512, 1, 4, 4) + 1e4
    found = after(nn.BatchNorm2d(1), Pooled(), list(x.split(64)))
    assert found.var.item() == pytest.approx(x.double().var().item(), abs=1e-3)


@pytest.mark.parametrize(("estimator", "momentum"), [(Ema(0.1), 0.1), (Cumulative(), None)])
def test_equals_pytorch_train_mode(estimator: Estimator, momentum: float | None) -> None:
    """A plain train-mode pass with momentum .1 or None, dropout off, is the oracle at every depth."""
    torch.manual_seed(1)
    batches = list(torch.randn(50, 1, 12, 12).split(8))
    ours, theirs = small_net(), small_net()
    after(ours, estimator, batches).write_to(ours)
    theirs.eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
            module.momentum = momentum
    for batch in batches:
        theirs(batch)
    for name, value in theirs.state_dict().items():
        assert torch.allclose(ours.state_dict()[name], value, rtol=1e-5, atol=1e-6), name


def test_a_shared_batchnorm_counts_every_call() -> None:
    """One layer called on x and on x + 10 over fixture A: pooled mean 11.5, biased variance 57.75."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(1)

        def forward(self, x: Tensor) -> Tensor:
            first: Tensor = self.norm(x)
            return first + self.norm(x + 10)

    found = after(Shared(), Pooled(unbiased=False), FIXTURE_A)
    assert (found.mean.item(), found.var.item()) == pytest.approx((11.5, 57.75))


def test_layers_that_a_batch_does_not_reach_keep_their_statistics() -> None:
    """Unused candidates stay bit-identical; a layer used now and then averages its own batches."""

    class Paths(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.paths = nn.ModuleList(nn.BatchNorm2d(1) for _ in range(3))
            self.last = nn.BatchNorm2d(1, affine=False)
            self.taken = 0

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.last(self.paths[self.taken](x) + x)
            return y

    model = Paths()
    never = model.paths[2]
    assert isinstance(never, nn.BatchNorm2d)
    never.running_mean = torch.tensor([3.0])
    with Walk(model, Pooled(unbiased=False)) as walk:
        for k, batch in enumerate([*FIXTURE_A, FIXTURE_A[0]]):
            model.taken = k % 2
            walk.step(batch)
        found = walk.statistics()
        assert walk.not_called == ["paths.2"]
    found.write_to(model)
    by_name = found.by_name()
    assert by_name["paths.0"][0].item() == pytest.approx(1)  # [0, 2] twice
    assert by_name["paths.0"][1].item() == pytest.approx(1)
    assert by_name["paths.1"][0].item() == pytest.approx(12)  # [10, 14]
    assert never.running_mean.item() == 3.0
    assert never.num_batches_tracked == 0


@pytest.mark.parametrize("training", [True, False])
def test_everything_is_put_back(training: bool) -> None:
    """Modes, momenta, hooks and buffers after the scope are those before it."""
    model = small_net().train(training)
    before = everything(model)
    after(model, Ema(0.1), [torch.randn(4, 1, 12, 12)])
    assert same(everything(model), before)


def test_everything_is_put_back_after_an_error() -> None:
    """A model that raises half-way in its second batch is bit-identical to before."""
    model = small_net().train()
    before = everything(model)
    with pytest.raises(BnrecalError, match=r"batch 1: the model raised RuntimeError.*channels"):
        after(model, Ema(0.1), [torch.randn(4, 1, 12, 12), torch.randn(4, 3, 12, 12)])
    assert same(everything(model), before)


def test_statistics_are_written_into_the_buffers_that_are_there() -> None:
    """Aliases of a buffer see the new values."""
    model = nn.BatchNorm2d(1)
    alias = model.running_mean
    after(model, Pooled(), FIXTURE_A).write_to(model)
    assert alias is model.running_mean
    assert alias is not None
    assert alias.item() == 6.5


def test_a_frozen_batchnorm_stays_frozen() -> None:
    """In eval mode inside a model in train mode: it normalises by its own statistics, kept as they are."""
    model = nn.Sequential(nn.BatchNorm2d(1), nn.BatchNorm2d(1)).train()
    model[0].eval()
    found = after(model, Pooled(), FIXTURE_A)
    assert found.layers == ("1",)
    # the frozen layer passes its input on (mean 0, variance 1), so the second sees fixture A itself
    assert found.mean.item() == pytest.approx(6.5, rel=1e-4)


def test_dropout_runs_as_in_evaluation() -> None:
    """Two passes over a model with dropout agree exactly, though it was handed over in train mode."""
    torch.manual_seed(1)
    batches = [torch.randn(6, 1, 12, 12)]
    model = small_net().train()
    one, two = after(model, Pooled(), batches), after(model, Pooled(), batches)
    assert torch.equal(one.mean, two.mean)
    assert torch.equal(one.var, two.var)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_buffers_do_not_limit_the_estimate(dtype: torch.dtype) -> None:
    """A model wholly in half precision: the moments are taken in float32, not in its buffers."""
    torch.manual_seed(0)
    x = (torch.randn(64, 2, 8, 8) * 3 + 100).to(dtype)
    found = after(nn.BatchNorm2d(2).to(dtype), Pooled(), list(x.split(16)))
    expected = x.double().transpose(0, 1).reshape(2, -1)
    assert torch.allclose(found.mean, expected.mean(1), rtol=1e-5)
    assert torch.allclose(found.var, expected.var(1), rtol=1e-4)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (nn.Sequential(nn.Conv2d(1, 1, 1)), "none at all"),
        (nn.Sequential(nn.GroupNorm(1, 1)), "0: nothing to recalibrate"),
        (nn.Sequential(nn.InstanceNorm2d(1)), "0: nothing to recalibrate"),
        (nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False)), "track_running_stats=False"),
    ],
)
def test_nothing_to_recalibrate_is_said(model: nn.Module, why: str) -> None:
    """A model without live BatchNorm is refused with the reason, layer by layer."""
    with pytest.raises(BnrecalError, match=why):
        Walk(model, Ema())


def test_one_value_per_channel_is_refused() -> None:
    """Named by batch and layer, before PyTorch's own error; the model stays as it was."""
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before = everything(model)
    with pytest.raises(BnrecalError, match="batch 1: 1 gets one value per channel"):
        after(model, Ema(), [torch.randn(2, 3), torch.randn(1, 3)])
    assert same(everything(model), before)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_and_infinity_are_named(bad: float) -> None:
    """The batch and the first layer that meets it; the model stays as it was."""
    model = small_net()
    before = everything(model)
    batches = [torch.randn(4, 1, 12, 12) for _ in range(3)]
    batches[2][1, 0, 3, 3] = bad
    with pytest.raises(BnrecalError, match=r"batch 2: NaN or infinity reaches 1$"):
        after(model, Cumulative(), batches)
    assert same(everything(model), before)


def test_reset_false_goes_on_from_what_the_model_has() -> None:
    """Two halves of a pass, the second without reset, equal the whole under ema."""
    whole = after(nn.BatchNorm2d(1), Ema(0.1), FIXTURE_A)
    model = nn.BatchNorm2d(1).double()
    after(model, Ema(0.1), [FIXTURE_A[0].double()]).write_to(model)
    with Walk(model, Ema(0.1), reset=False) as walk:
        walk.step(FIXTURE_A[1].double())
        assert walk.statistics().mean.item() == pytest.approx(whole.mean.item())


def test_deep_copies_do_not_carry_the_walk() -> None:
    """A copy made before the walk is untouched by it."""
    model = small_net()
    clean = copy.deepcopy(model)
    after(model, Ema(0.1), [torch.randn(4, 1, 12, 12)])
    assert same(everything(model), everything(clean))
