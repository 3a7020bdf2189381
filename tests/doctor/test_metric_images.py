"""On which images the metric is, in which batches it was taken, and what it says of the remedy."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import bnrecal
from bnrecal.doctor.sizes import SIZES, Sizes
from bnrecal.doctor.weighing import Gain, differ
from tests.doctor.patients import IMAGES, sane
from tests.doctor.trained import N_TRAIN, garments, normalised, trained


def top1(truth: Tensor) -> Callable[[nn.Module, Iterable[Any]], float]:
    """Top-1 of images in this order, all scored together."""

    def evaluate(model: nn.Module, batches: Iterable[Any]) -> float:
        found = torch.cat([model(batch).argmax(1) for batch in batches])
        return float((found == truth[: len(found)]).double().mean())

    return evaluate


def by_batch(model: nn.Module, batches: Iterable[Any]) -> float:
    """How confident the network is, averaged by batch: a short last one counts as much as any."""
    means = [model(batch).softmax(1).max(1)[0].mean() for batch in batches]
    return float(torch.stack(means).mean())


@pytest.mark.parametrize("n", [5, 8, 16, 64, 65, 129])
def test_a_metric_averaged_by_batch_is_found_on_the_evaluation_images(n: int) -> None:
    """Calibration images in whole batches would hide it; whatever their number, evaluation images do not."""
    found = bnrecal.diagnose(sane(), IMAGES[:64].split(64), evaluation=[IMAGES[:n]], evaluate=by_batch)
    seen = found["batch-size"]
    assert seen.level == "wrong", str(found)
    assert "do not average per-batch metrics" in seen.remedy
    assert "evaluation images)" in seen.evidence
    assert "evaluation images)" in found["train-gap"].evidence


def test_the_metric_is_given_the_evaluation_images() -> None:
    """Not one calibration image reaches `evaluate` where there are evaluation images."""
    seen: list[Tensor] = []

    def evaluate(model: nn.Module, batches: Iterable[Any]) -> float:
        return float(torch.stack([(seen.append(b), model(b).mean())[1] for b in batches]).mean())

    bnrecal.diagnose(sane(), [IMAGES[:64]], evaluation=[IMAGES[64:100]], evaluate=evaluate)
    assert {tuple(image.flatten()[:4].tolist()) for batch in seen for image in batch} <= {
        tuple(image.flatten()[:4].tolist()) for image in IMAGES[64:100]
    }


@pytest.mark.parametrize(
    ("n", "said"),
    [
        (64, "outputs at batch sizes 1, 8, 64 agree to"),
        (16, "outputs at batch sizes 1, 8, 16 agree to"),
        (3, "outputs at batch sizes 1, 3 agree to"),
    ],
)
def test_what_was_tried_is_said(n: int, said: str) -> None:
    """Sizes that so few images fill, and their number."""
    found = bnrecal.diagnose(sane(), [IMAGES[:n]])["batch-size"]
    assert found.evidence.startswith(said)
    assert found.evidence.endswith(f"({n} calibration images)")


def test_a_single_image_says_nothing_of_batch_sizes() -> None:
    """Skipped with the reason, not called fine."""
    found = bnrecal.diagnose(sane(), [IMAGES[:1]])["batch-size"]
    assert (found.level, found.evidence) == (
        "skipped",
        "1 calibration image: too few for batches of different sizes",
    )


@given(st.integers(1, 600), st.booleans())
def test_sizes(n: int, whole: bool) -> None:
    """Each size once, rising, none beyond the images; unless whole, a short batch wherever one can be."""
    tried = Sizes.of(n, "evaluation", whole)
    assert tried.n_images <= n
    assert tried.n_images == n or not whole
    assert list(tried.sizes) == sorted(set(tried.sizes))
    assert tried.sizes[0] == 1
    assert max(tried.sizes) <= tried.n_images
    if not whole and tried.n_images > 2:
        assert any(tried.n_images % size for size in tried.sizes)
    assert n - tried.n_images < SIZES[-1]


def held() -> tuple[Tensor, Tensor]:
    """All garments as the network takes them, and their classes."""
    images, truth = garments()
    return normalised(images, (0.0,), (1.0,)), truth


def diagnosed(model: nn.Module, evaluate: bool = True) -> bnrecal.Diagnosis:
    """Calibrated with 512 of the training images, evaluated on 512 others."""
    images, truth = held()
    settings = {"evaluate": top1(truth[N_TRAIN:])} if evaluate else {}
    return bnrecal.diagnose(model, images[:512].split(64), evaluation=images[N_TRAIN:].split(64), **settings)


def on_other_statistics(model: nn.Module) -> nn.Module:
    """The same features under statistics of other images, and a head fitted on what they give now."""
    model = copy.deepcopy(model)
    dice = torch.Generator().manual_seed(1)
    for norm in (model[1], model[4], model[7]):
        norm.running_mean += norm.running_var.sqrt() * torch.randn(len(norm.running_mean), generator=dice)
        norm.running_var *= torch.exp(torch.randn(len(norm.running_var), generator=dice))
    images, truth = held()
    with torch.no_grad():
        features = model[:-1](images[:N_TRAIN])
    features = torch.cat([features, torch.ones(N_TRAIN, 1)], 1)
    wanted = nn.functional.one_hot(truth[:N_TRAIN], 10).float()
    ridge = features.T @ features + 1e-2 * torch.eye(features.shape[1])
    fitted = torch.linalg.solve(ridge, features.T @ wanted).T
    model[-1].weight.data, model[-1].bias.data = fitted[:, :-1].contiguous(), fitted[:, -1].contiguous()
    return model.eval()


def test_a_head_fitted_on_other_statistics_is_left_alone() -> None:
    """They do not fit these images, and re-estimating would ruin the network: no fault, and it is said."""
    model = on_other_statistics(trained())
    found = diagnosed(model)
    assert found.wrong == (), str(found)
    shift = found["shift"]
    assert (shift.level, set(shift.layers)) == ("note", {"1", "4", "7"})
    assert shift.remedy.startswith("leave them")
    assert "with the stored statistics" in shift.evidence
    assert found["train-gap"].level == "note"
    assert found["train-gap"].remedy.startswith("leave the stored ones")
    assert not any("re-estimate them" in finding.remedy for finding in found.findings)
    assert harm(model) > 0.1


def harm(model: nn.Module) -> float:
    """How much the metric loses by doing what is warned of."""
    images, truth = held()
    evaluate = top1(truth[N_TRAIN:])
    with torch.no_grad():
        before = evaluate(model, images[N_TRAIN:].split(64))
        with bnrecal.recalibrated(model, images[:512].split(64)):
            return before - evaluate(model, images[N_TRAIN:].split(64))


def lost(model: nn.Module) -> None:
    """Statistics as a supernet has them."""
    for norm in (model[1], model[4], model[7]):
        norm.reset_running_stats()


def strange(model: nn.Module) -> None:
    """Statistics of something else."""
    for norm in (model[1], model[4], model[7]):
        norm.running_mean += 3 * norm.running_var.sqrt()
        norm.running_var *= 9


@pytest.mark.parametrize(("spoil", "check"), [(lost, "never-updated"), (strange, "shift")])
def test_what_re_estimation_repairs_is_wrong_and_says_so_plainly(spoil: Any, check: str) -> None:
    """The remedy is to re-estimate, without an if; the metric of both stands in the evidence."""
    model = copy.deepcopy(trained())
    spoil(model)
    found = diagnosed(model)
    assert {check, "train-gap"} <= {finding.check for finding in found.wrong}, str(found)
    assert (
        found[check].remedy == "re-estimate them: bnrecal recalibrate, or bnrecal.recalibrate(model, batches)"
    )
    assert "with re-estimated ones (512 evaluation images)" in found[check].evidence
    assert harm(model) < -0.1


def test_without_a_metric_the_remedy_says_that_it_was_not_weighed() -> None:
    """A shift is found; whether the metric gains is left to be looked at."""
    found = diagnosed(on_other_statistics(trained()), evaluate=False)
    assert found["shift"].level == "wrong"
    assert "compare the metric before and after (evaluate= lets diagnose do so)" in found["shift"].remedy


def test_a_trained_network_has_nothing_wrong() -> None:
    """With the statistics its training left."""
    assert diagnosed(copy.deepcopy(trained())).wrong == ()


@pytest.mark.parametrize(
    ("stored", "fresh", "n", "kind"),
    [
        (1.0, 0.4766, 512, "harms"),
        (0.1016, 0.1094, 512, "neither"),  # chance level: a relative rule would see 8 %
        (0.45, 0.96, 64, "repairs"),
        (0.9, 0.95, 16, "neither"),
        (float("nan"), 0.5, 512, "repairs"),
        (0.5, float("nan"), 512, "harms"),
        (-2.0, -1.0, 512, "repairs"),  # minus a loss
        (50.0, 49.5, 512, "neither"),  # per cent
    ],
)
def test_metrics_are_told_apart_beyond_chance(stored: float, fresh: float, n: int, kind: str) -> None:
    """By binomial noise of fractions, by 2 % and 1.5 / sqrt(n) of other figures."""
    assert Gain(stored, fresh, n, "evaluation").kind == kind


def test_equal_networks_are_rarely_told_apart() -> None:
    """Two independent draws of one fraction differ in about 1 of 20 cases at the most."""
    dice = torch.Generator().manual_seed(0)
    for p in (0.05, 0.5, 0.9):
        draws = torch.bernoulli(torch.full((2, 1000, 256), p), generator=dice).mean(2)
        found = [differ(float(a), float(b), 256) for a, b in draws.T]
        assert sum(found) / len(found) < 0.08
