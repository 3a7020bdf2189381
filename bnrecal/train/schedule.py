"""The learning rate of each step: a pure function of the step, so that nothing has to be kept of it."""

import math

from bnrecal.study.recipe import Recipe

# One cycle as torch.optim.lr_scheduler.OneCycleLR has it (Smith & Topin 2017), annealed by cosines.
ONE_CYCLE_START = 25.0  # the peak by the first rate
ONE_CYCLE_END = 1e4  # the first rate by the last
ONE_CYCLE_RISE = 0.3  # of all steps, where the recipe says nothing


def warmup_steps(recipe: Recipe, steps_an_epoch: int) -> float:
    """Steps in which the rate rises, not rounded."""
    total = recipe.epochs * steps_an_epoch
    if recipe.warmup is not None:
        return recipe.warmup * steps_an_epoch
    if recipe.warmup_fraction is not None:
        return recipe.warmup_fraction * total
    return ONE_CYCLE_RISE * total if recipe.schedule == "one-cycle" else 0.0


def learning_rate(recipe: Recipe, step: int, steps_an_epoch: int) -> float:
    """The rate of step 0, 1, ... of the whole training.

    Warm-up: (step + 1) / steps of the peak, linearly. What follows it, at the fraction t in [0, 1) of the
    steps that are left: cosine (1 + cos(pi t)) / 2, linear 1 - t, constant 1 times the peak. One cycle: see
    `_one_cycle`.
    """
    total, rising = recipe.epochs * steps_an_epoch, warmup_steps(recipe, steps_an_epoch)
    peak = recipe.peak_lr
    if recipe.schedule == "one-cycle":
        return _one_cycle(peak, step, rising, total)
    whole = min(round(rising), total)
    if step < whole:
        return peak * (step + 1) / whole
    t = (step - whole) / (total - whole)
    return (
        peak * {"cosine": (1 + math.cos(math.pi * t)) / 2, "linear": 1 - t, "constant": 1.0}[recipe.schedule]
    )


def _one_cycle(peak: float, step: int, rising: float, total: int) -> float:
    """From peak / 25 by half a cosine to the peak at step `rising` - 1, and down to peak / 250,000."""
    first = peak / ONE_CYCLE_START
    top, last = float(rising) - 1, total - 1
    if step <= top or total == 1:
        return _between(first, peak, step / top if top else 1.0)
    return _between(peak, first / ONE_CYCLE_END, (step - top) / (last - top))


def _between(start: float, end: float, t: float) -> float:
    return end + (start - end) / 2.0 * (math.cos(math.pi * t) + 1)
