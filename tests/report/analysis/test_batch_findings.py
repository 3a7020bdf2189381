"""The largest training batch that is not worse beyond noise: every sentence, where it holds and where not."""

from typing import Any

from bnrecal.report.analysis.batch_findings import batch_findings
from bnrecal.report.analysis.by_axes import BATCH
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.store.store import Row
from tests.report.analysis.test_by_axes import the_one, trained

NOTHING = Uncertainty(None)
Levels = dict[tuple[int, float], float]  # eval by training batch and learning rate


def study(levels: Levels, n_seeds: int = 3, scatter: float = 0.004, **more: Any) -> list[Row]:
    """Seeds shift every network alike by .01, and each by up to `scatter` of its own."""
    rows = []
    for k, ((batch, lr), level) in enumerate(levels.items()):
        for seed in range(n_seeds):
            own = scatter * ((seed + k) % 3 - 1)
            value = level + 0.01 * seed + own
            recipe = {"batch_size": batch, "lr": lr, "seed": seed, **more}
            rows += trained(recipe, {("stored", None): value - 0.2, ("pooled", 64): value})
    return rows


def said_of(rows: list[Row], train_s: dict[str, float] | None = None) -> str:
    found = batch_findings(the_one(rows), NOTHING, train_s or {})
    return "\n".join(map(str, found))


def test_the_training_batch_is_an_axis_of_its_own() -> None:
    """Beside the batch size of the statistics, which was one here: both trainings stand in the table."""
    found = the_one(study({(64, 0.1): 0.5, (256, 0.1): 0.5}))
    assert found.axes[BATCH] == (64, 256)
    assert {point.at[BATCH] for point in found.points if not point.is_stored} == {64, 256}


def test_a_larger_batch_within_noise_is_named_with_its_time() -> None:
    """1,024 is .002 behind 256 where seeds scatter by .004: the largest that is not worse; 4,096 is."""
    levels = {(64, 0.1): 0.58, (256, 0.1): 0.6, (1024, 0.1): 0.598, (4096, 0.1): 0.45}
    rows = study(levels)
    train_s = {row["trained"]: 50.0 if row["recipe"]["batch_size"] == 256 else 40.0 for row in rows}
    text = said_of(rows, train_s)
    assert (
        "Training batch: 1,024 (0.6080) is the largest that is not worse beyond noise than the best" in text
    )
    assert "256 (0.6100): -0.0020 (95 % " in text
    assert "no proof that they are equal. It trained in 40.0 s against 50.0 s (cpu)." in text
    assert "at 10 epochs each; statistics pooled" in text
    assert "adjusted for 3 comparisons" in text
    assert "4,096 (0.4600): -0.1500" in text
    assert "best of its recipes" not in text
    assert "What they took is not known." in said_of(rows)


def test_where_all_larger_ones_are_worse_the_next_one_says_by_how_much() -> None:
    """The same network with 1,024 worse by .1."""
    text = said_of(study({(64, 0.1): 0.58, (256, 0.1): 0.6, (1024, 0.1): 0.5}))
    assert "256 (0.6100) scores highest, and every larger one is worse beyond noise, 1,024 (0.5100)" in text
    assert "by 0.1000" in text
    assert "not worse" not in text


def test_the_largest_may_be_the_best() -> None:
    """Then nothing is to be weighed."""
    text = said_of(study({(64, 0.1): 0.5, (256, 0.1): 0.6}))
    assert "Training batch: the largest, 256 (0.6100), scores highest" in text


def test_each_batch_stands_with_its_best_recipe() -> None:
    """Rates that are wrong for a batch do not count against it."""
    rates = {(64, 0.1): 0.6, (64, 0.4): 0.3, (1024, 0.4): 0.598, (1024, 0.1): 0.3}
    text = said_of(study(rates))
    assert "1,024 (lr 0.4: 0.6080) is the largest that is not worse beyond noise" in text
    assert "64 (lr 0.1: 0.6100)" in text
    assert "each with the best of its recipes on the same seeds" in text


def test_one_seed_says_nothing_certain() -> None:
    """Without a scatter of trainings and without evidence of images no batch is called equal or worse."""
    text = said_of(study({(64, 0.1): 0.6, (256, 0.1): 0.59}, n_seeds=1))
    assert "64 (0.5960) scores highest; nothing says how certain that is" in text
    assert "worse" not in text


def test_unequal_epochs_are_said() -> None:
    """The condition stands in the sentence."""
    rows = study({(64, 0.1): 0.5}, epochs=2) + study({(256, 0.1): 0.6}, epochs=4)
    assert "at unequal epochs" in said_of(rows)


def test_nothing_is_said_of_one_batch_or_of_other_seeds() -> None:
    """A finding needs matched trainings."""
    assert said_of(study({(64, 0.1): 0.5, (64, 0.2): 0.5})) == ""
    assert said_of(study({(64, 0.1): 0.5}) + study({(256, 0.1): 0.5}, n_seeds=2)) == ""


def test_published_figures_stand_beside_top1_alone() -> None:
    """Seed 004's differences and others' figures, each with its source; not beside a detector's mAP."""
    rows = study({(64, 0.1): 0.5, (256, 0.1): 0.6})
    text = said_of(rows)
    assert "eight cards without SyncBatchNorm (seed 004): 256: 0, 1,024: -0.2, 4,096: -0.8 points" in text
    assert "LARS, 90 epochs (NUS-HPC): 512: 77.02, 1,024: 76.96, 4,096: 77.38, 8,192: 77.14 %" in text
    detection = said_of([{**row, "metric": "map50"} for row in rows])
    assert "Training batch: " in detection
    assert "Published" not in detection
