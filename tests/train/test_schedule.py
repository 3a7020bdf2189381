"""Learning rates, against torch's own schedulers."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from bnrecal.study.recipe import Recipe
from bnrecal.train.schedule import learning_rate

STEPS = 7  # of an epoch


def of_torch(scheduler: Any, optimiser: torch.optim.Optimizer, n: int) -> list[float]:
    found = []
    for _ in range(n):
        found.append(float(optimiser.param_groups[0]["lr"]))
        optimiser.step()
        scheduler.step()
    return found


def ours(recipe: Recipe) -> list[float]:
    return [learning_rate(recipe, step, STEPS) for step in range(recipe.epochs * STEPS)]


def an_optimiser(lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


@settings(deadline=None)
@given(epochs=st.integers(1, 9), rise=st.floats(0.05, 0.95), lr=st.floats(1e-4, 2))
def test_one_cycle_is_torchs_to_the_bit(epochs: int, rise: float, lr: float) -> None:
    """OneCycleLR with the same peak and rise gives the same floats, so that old weights come out again."""
    recipe = Recipe(epochs=epochs, schedule="one-cycle", warmup_fraction=rise, lr=lr)
    optimiser = an_optimiser(lr)
    scheduler = lr_scheduler.OneCycleLR(
        optimiser, lr, total_steps=epochs * STEPS, pct_start=rise, cycle_momentum=False
    )
    expected = []
    for step in range(epochs * STEPS):
        expected.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if step + 1 < epochs * STEPS:
            scheduler.step()
    assert ours(recipe) == expected


@pytest.mark.parametrize("warmup", [0, 1, 2.5])
def test_cosine_with_warmup_is_torchs(warmup: float) -> None:
    """LinearLR for the warm-up, then CosineAnnealingLR over the steps that are left."""
    recipe = Recipe(epochs=6, schedule="cosine", warmup=warmup, lr=0.3)
    n, rising = 6 * STEPS, round(warmup * STEPS)
    cosine = of_torch(lr_scheduler.CosineAnnealingLR(o := an_optimiser(0.3), n - rising), o, n - rising)
    expected = cosine
    if rising:
        linear = lr_scheduler.LinearLR(o := an_optimiser(0.3), 1 / rising, total_iters=rising - 1)
        expected = of_torch(linear, o, rising) + cosine
    assert ours(recipe) == pytest.approx(expected, rel=1e-9)


def test_linear_is_torchs() -> None:
    """LinearLR from 1 to 0."""
    optimiser = an_optimiser(0.3)
    scheduler = lr_scheduler.LinearLR(optimiser, 1.0, 0.0, 3 * STEPS)
    expected = of_torch(scheduler, optimiser, 3 * STEPS)
    assert ours(Recipe(epochs=3, schedule="linear", lr=0.3)) == pytest.approx(expected, rel=1e-9)


def test_constant_and_warmup_fraction() -> None:
    """A quarter of 28 steps rises evenly to the peak, which then stays."""
    found = ours(Recipe(epochs=4, schedule="constant", warmup_fraction=0.25, lr=0.7))
    assert found == pytest.approx([0.1 * k for k in range(1, 8)] + [0.7] * 21)


def test_rates_follow_the_batch() -> None:
    """Relative to 64 images, 256 have four times the rate, or twice by the root."""
    more = {"lr": 0.1, "lr_batch": 64, "batch_size": 256}
    assert Recipe(lr_scaling="linear", **more).peak_lr == pytest.approx(0.4)
    assert Recipe(lr_scaling="sqrt", **more).peak_lr == pytest.approx(0.2)
    assert Recipe(lr=0.1, batch_size=256).peak_lr == 0.1


@settings(deadline=None)
@given(
    epochs=st.integers(1, 5),
    schedule=st.sampled_from(["one-cycle", "cosine", "linear", "constant"]),
    fraction=st.none() | st.floats(0, 0.99),
)
def test_rates_are_positive_and_never_above_the_peak(
    epochs: int, schedule: Any, fraction: float | None
) -> None:
    """For every schedule and warm-up, at every step; some step comes near the peak."""
    found = ours(Recipe(epochs=epochs, schedule=schedule, warmup_fraction=fraction, lr=0.5))
    assert all(math.isfinite(lr) and 0 < lr <= 0.5 * (1 + 1e-12) for lr in found)
    assert max(found) > 0.4
