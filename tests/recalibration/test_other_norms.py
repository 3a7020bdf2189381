"""Networks converted to other norms: re-estimated where there are running statistics, told where not."""

import copy

import pytest
import torch
from torch import Tensor, nn

import bnrecal
from bnrecal import BnrecalError
from bnrecal.norms import BatchRenorm2d, convert
from bnrecal.recalibration.shift import stored
from tests.recalibration.test_recalibrate import ESTIMATORS, deep_net, images
from tests.recalibration.test_walk import FIXTURE_A

NORMS = ["bn", "brn", "cbn", "naive-cbn"]


def by_hand(estimator: str) -> tuple[float, float]:
    """Mean and variance of fixture A as recalibration.md gives them."""
    return {"ema": (1.29, 1.79), "cumulative": (6.5, 5.0)}.get(estimator, (6.5, 131 / 3))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("eps", [1e-3, 0.5])
def test_batch_renorm_gets_the_root(estimator: str, eps: float) -> None:
    """Fixture A into a BatchRenorm: running_std = sqrt(var + eps), the variance being the estimator's."""
    model = BatchRenorm2d(1, eps=eps)
    bnrecal.recalibrate(model, FIXTURE_A, estimator=estimator)
    mean, var = by_hand(estimator)
    assert model.running_mean is not None
    assert model.running_mean.item() == pytest.approx(mean, rel=1e-6)
    assert model.running_std.item() == pytest.approx((var + eps) ** 0.5, rel=1e-6)
    assert model.num_batches_tracked == 2
    assert set(model._buffers) == {"running_mean", "running_std", "num_batches_tracked"}


@pytest.mark.parametrize("norm_batch", [None, 3])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("norm", NORMS)
def test_statistics_are_those_of_batchnorm(norm: str, estimator: str, norm_batch: int | None) -> None:
    """A trained network under any of these norms, recalibrated in batches of any size, is BatchNorm's."""
    plain = deep_net()
    batches = list(images(20).split(8))  # no multiple of norm_batch: recalibration has batches of its own
    found = convert(plain, norm, norm_batch=norm_batch).train()
    found(images(6, seed=5))  # past batches of CBN, statistics of BRN: none of it matters
    report = bnrecal.recalibrate(found, batches, estimator=estimator)
    bnrecal.recalibrate(plain, batches, estimator=estimator)
    assert len(report.layers) == 3
    for name, (mean, var) in stored(plain).items():
        assert torch.allclose(stored(found)[name][0], mean, rtol=1e-5, atol=1e-6)
        assert torch.allclose(stored(found)[name][1], var, rtol=1e-5, atol=1e-6)
    x = images(5, seed=9)
    assert torch.allclose(found.eval()(x), plain.eval()(x), atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_only_statistics_change(norm: str) -> None:
    """Weights, past batches, modes and everything else are bit for bit as before."""
    model = convert(deep_net(), norm).train()
    model(images(6, seed=5))
    before = copy.deepcopy(model.state_dict())
    bnrecal.recalibrate(model, list(images(16).split(8)))
    changed = {
        name.split(".")[-1]
        for name, value in model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed <= {"running_mean", "running_var", "running_std", "num_batches_tracked"}
    assert {"running_mean", "running_std" if norm == "brn" else "running_var"} <= changed
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("norm", NORMS)
def test_an_error_half_way_changes_nothing(norm: str) -> None:
    model = convert(deep_net(), norm)
    before = copy.deepcopy(model.state_dict())
    batches = [images(8), torch.full((8, 1, 12, 12), torch.nan)]
    with pytest.raises(BnrecalError, match="batch 1: NaN"):
        bnrecal.recalibrate(model, batches)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all("forward" not in module.__dict__ for module in model.modules())
    with bnrecal.recalibrated(model, [images(8)]):
        assert not all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_ema_goes_on_from_the_stored_root() -> None:
    """reset=False: from var = running_std^2 - eps."""
    model = BatchRenorm2d(1, eps=0.5)
    model.running_std.fill_(2.0)
    bnrecal.recalibrate(model, FIXTURE_A, estimator="ema", reset=False)
    var = 0.9 * (0.9 * 3.5 + 0.1 * 2) + 0.1 * 8
    assert model.running_std.item() == pytest.approx((var + 0.5) ** 0.5, rel=1e-6)


@pytest.mark.parametrize(("norm", "kind"), [("gn", "GroupNorm"), ("ln", "LayerNorm"), ("in", "InstanceNorm")])
def test_nothing_to_recalibrate(norm: str, kind: str) -> None:
    """One line that says so, and the reason in a report of a network that has some BatchNorm too."""
    model = convert(deep_net(), norm, **({"groups": 4} if norm == "gn" else {}))
    with pytest.raises(
        BnrecalError, match=f"nothing to recalibrate: {kind} normalises each image by itself"
    ) as e:
        bnrecal.recalibrate(model, [images(8)])
    assert "\n" not in str(e.value)
    mixed = nn.Sequential(model, nn.BatchNorm2d(8))
    report = bnrecal.recalibrate(mixed, [images(8)])
    assert len(report.layers) == 1
    assert all(reason.startswith("nothing to recalibrate") for reason in report.left_alone.values())


def test_frozen_layers_are_constants() -> None:
    with pytest.raises(BnrecalError, match="frozen by its type"):
        bnrecal.recalibrate(convert(deep_net(), "frozen"), [images(8)])


def evidence(model: nn.Module, check: str) -> tuple[str, str]:
    batches: list[Tensor] = list(images(128).split(64))
    diagnosis = bnrecal.diagnose(model, batches)
    return next((f.level, f.evidence) for f in diagnosis.findings if f.check == check)


def test_doctor_knows_them() -> None:
    """Never updated, found for running_std as for running_var; after recalibration all is well."""
    for norm in NORMS:
        model = convert(deep_net(), norm)
        assert evidence(model, "never-updated")[0] == "wrong", norm
        bnrecal.recalibrate(model, list(images(128).split(64)))
        assert evidence(model, "never-updated")[0] == "fine", norm
        assert evidence(model, "shift")[0] == "fine", norm
        assert evidence(model, "broken-statistics")[0] == "fine", norm
    assert evidence(nn.Sequential(BatchRenorm2d(1)), "never-updated")[0] == "wrong"


def test_doctor_says_that_there_is_nothing_to_recalibrate() -> None:
    model = convert(deep_net(), "gn", groups=4)
    line = "no BatchNorm; nothing to recalibrate: each image is normalised by itself (3 GroupNorms)"
    assert evidence(model, "tracking") == ("fine", line)
    assert evidence(nn.Sequential(nn.Conv2d(1, 2, 3)), "tracking") == ("fine", "no BatchNorm at all")
