"""Tables of trained networks: axes that vary, seeds averaged, and what changes along each beyond noise."""

import hashlib
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pytest
from scipy.stats import t

from bnrecal.errors import BnrecalError
from bnrecal.report.analysis.axis_findings import (
    axis_findings,
    half_width,
    noise_of,
    scatter_along,
    scatter_within,
)
from bnrecal.report.analysis.by_axes import Variants, variants_of
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.report.formats.variants import text_tables
from bnrecal.store import evidence
from bnrecal.store.store import Row
from tests.report.test_report import row

NOTHING = Uncertainty(None)
RULES: tuple[tuple[str, int | None], ...] = (("stored", None), ("pooled", 64), ("pooled", 512), ("exact", 64))


def trained(recipe: dict[str, Any], evals: dict[tuple[str, int | None], float]) -> list[Row]:
    """The evaluated rows of one training, its key made from the recipe."""
    key = "".join(f"{name}{value}" for name, value in recipe.items()).replace(" ", "")
    rows = []
    for (estimator, n), value in evals.items():
        fields = {
            "key": hashlib.sha256(f"{key} {estimator} {n}".encode()).hexdigest()[:16],
            "estimator": estimator,
            "momentum": None,
            "eval": value,
            "metric": "top1",
            "trained": key,
            "recipe": recipe,
        }
        if estimator == "stored":
            fields |= {"batch_size": None, "n_samples": 0, "n_updates": 0, "seed": None}
        rows.append(row("net", 32, n or 32, 0.0) | fields)
    return rows


def study(gain: dict[int, float], scatter: float = 0.002, n_seeds: int = 3) -> list[Row]:
    """norm batch x seed x rule: re-estimation adds gain[norm batch]; seeds differ by `scatter`."""
    rows = []
    for norm_batch, more in gain.items():
        for seed in range(n_seeds):
            stands = 0.5 + 0.01 * norm_batch + scatter * (seed - 1)
            own = scatter / 10 * (seed - 1)
            evals = {at: stands + (0 if at[0] == "stored" else more + own) for at in RULES}
            recipe = {"norm_batch": norm_batch, "seed": seed} if seed else {"norm_batch": norm_batch}
            rows += trained(recipe, evals)
    return rows


def the_one(rows: list[Row], *axes: str | None) -> Variants:
    (found,) = variants_of(rows, *(axes or (None, None)))
    return found


def test_what_varies_is_an_axis_and_seeds_are_none() -> None:
    """Norm batch, rule and images vary; three trainings of each stand as their mean, with t's interval."""
    found = the_one(study({2: 0.05, 8: 0.0}))
    assert found.axes == {"norm batch": (2, 8), "statistics": ("pooled", "exact"), "images": (64, 512)}
    assert found.training_axes == ("norm batch",)
    assert found.training_seeds == (0, 1, 2)
    group = next(iter(found.blocks[0].groups.values()))
    values = list(group.by_training.values())
    assert len(values) == 3
    assert group.eval == pytest.approx(mean(values))
    wanted = t.ppf(0.975, 2) * stdev(values) / 3**0.5
    assert half_width(group, NOTHING) == pytest.approx(wanted)


def test_every_cell_stands_in_one_table_and_the_baseline_beside_it() -> None:
    """Rows and columns by choice; the network as it stands is a row where rows are of statistics."""
    found = the_one(study({2: 0.05, 8: 0.0, 32: 0.0}), "images", "norm batch")
    assert [block.title for block in found.blocks] == ["pooled", "exact"]
    shown = sum(len(group.points) for block in found.blocks for group in block.groups.values())
    assert shown == sum(not point.is_stored for point in found.points)
    pooled, exact = text_tables(found, NOTHING)
    assert pooled.headers == ("images \\ norm batch", "2", "8", "32")
    assert [cells[0] for cells in pooled.rows] == ["as it stands", "64", "512"]
    assert pooled.rows[0][1].startswith("0.5200±")
    assert [cells[0] for cells in exact.rows] == ["as it stands", "64"]
    turned = text_tables(the_one(study({2: 0.05, 8: 0.0}), "norm batch", "images"), NOTHING)
    assert turned[0].headers == ("norm batch \\ images", "as it stands", "64", "512")
    assert turned[0].rows[1][1].startswith("0.5800±")


def test_an_axis_that_does_not_vary_is_refused_with_those_that_do() -> None:
    """--rows of another name: one line that lists the axes."""
    with pytest.raises(
        BnrecalError, match="--rows: unknown axis 'lr'; valid: norm batch, statistics, images"
    ):
        variants_of(study({2: 0.0, 8: 0.0}), "lr", None)


def test_what_re_estimation_gives_back_is_told_by_kind_of_network() -> None:
    """.05 at norm batch 2 and harm of .03 at 8, both beyond the scatter over trainings; counted as such."""
    first = axis_findings(the_one(study({2: 0.05, 8: -0.03})), NOTHING)[0]
    assert first.topic == "re-estimation"
    assert "better beyond noise for 1 of 2 kinds of network, worse for 1." in first.text
    assert "Intervals take one scatter for all and are adjusted for 2 comparisons." in first.text
    assert "norm batch 2: 0.5200 as it stands, 0.5700 re-estimated: +0.0500 (95 % +0.0" in first.items[0]
    assert "over 3 trainings" in first.items[0]


def test_where_there_are_no_intervals_none_are_spoken_of() -> None:
    """One training of each kind, no evidence: no scatter, nothing adjusted."""
    first = axis_findings(the_one(study({2: 0.05, 8: -0.03}, n_seeds=1)), NOTHING)[0]
    assert "better beyond noise for 0 of 2 kinds of network, worse for 0." in first.text
    assert "ntervals" not in first.text
    assert "nothing says how certain that is" in first.items[0]


def test_scatter_over_trainings_hides_a_small_gain() -> None:
    """The same mean gain with seeds that disagree is not called better."""
    rows = study({2: 0.004, 8: 0.0}, scatter=0.05)
    assert "better beyond noise for 0 of 2" in axis_findings(the_one(rows), NOTHING)[0].text


def along(rows: list[Row], axis: str, uncertainty: Uncertainty = NOTHING) -> str:
    found = axis_findings(the_one(rows), uncertainty)
    return next(finding.text for finding in found if finding.topic == f"along {axis}")


def test_an_axis_is_told_apart_only_beyond_noise() -> None:
    """Norm batch 2 and 8 are .06 apart in matched cells; pooled and exact are equal to the digit."""
    rows = study({2: 0.0, 8: 0.0})
    assert "norm batch 8 scores highest" in along(rows, "norm batch")
    assert "0.0600 apart" in along(rows, "norm batch")
    assert "no value is told from another" in along(rows, "statistics")


def test_one_training_leaves_the_noise_of_the_images(tmp_path: Path) -> None:
    """With a single seed the interval is a paired bootstrap, and without evidence there is none."""
    rows = study({2: 0.0, 8: 0.0}, n_seeds=1)
    assert "nothing says how certain that is" in along(rows, "norm batch")
    for one in rows:
        right = np.arange(1000) < round(1000 * one["eval"])
        evidence.keep(tmp_path, one["key"], {"correct": right.astype(np.uint8)})
    text = along(rows, "norm batch", Uncertainty(tmp_path, rows))
    assert "over evaluation images" in text
    assert "norm batch 8 scores highest" in text


def test_failed_cells_count_and_stand_nowhere() -> None:
    """A lost training is told in the title."""
    rows = study({2: 0.0, 8: 0.0})
    lost = rows[0] | {"key": "lost", "status": "failed", "eval": None}
    assert the_one([*rows, lost]).title.endswith("(24 cells, 1 failed)")


def test_kinds_of_network_without_statistics_are_a_table_of_their_own() -> None:
    """Two norms, both as they stand: the table is of what was trained, and nothing is re-estimated."""
    rows = [
        *trained({"norm": "gn"}, {("stored", None): 0.5}),
        *trained({"norm": "ln"}, {("stored", None): 0.4}),
    ]
    found = the_one(rows)
    (table,) = text_tables(found, NOTHING)
    assert table.title == "as it stands"
    assert [cells[:2] for cells in table.rows] == [("gn", "0.5000"), ("ln", "0.4000")]
    assert [finding.topic for finding in axis_findings(found, NOTHING)] == ["along norm"]


def test_a_norm_without_statistics_stands_beside_one_with(tmp_path: Path) -> None:
    """gn has a stored cell alone: its figure is in the tables whatever the rows and columns, and norms are
    compared as they stand."""
    rows = [*trained({"norm": "gn"}, {("stored", None): 0.6123}), *trained({}, dict.fromkeys(RULES, 0.5))]
    for axes in ((None, None), ("statistics", "norm"), ("norm", "images"), ("statistics", "images")):
        found = the_one(rows, *axes)
        text = [cell for table in text_tables(found, NOTHING) for line in table.rows for cell in line]
        assert "0.6123" in text, axes  # beside each block of other cells, as baselines are
        for table in text_tables(found, NOTHING):
            assert {len(line) for line in table.rows} == {len(table.headers)}
    assert "Along norm, networks as they stand: " in along(rows, "norm")
    assert "gn (0.6123) and bn (0.5000)" in along(rows, "norm")


def test_a_norm_without_statistics_stands_only_where_it_was_trained() -> None:
    """gn was trained on shuffled batches alone: no table of batches in pairs of a class has its figure."""
    rows = trained({"norm": "gn"}, {("stored", None): 0.6123})
    for batches in ({}, {"batches": "class-pairs"}):
        for n in (2, 4):
            evals = {("stored", None): 0.5 + n / 100, ("pooled", 64): 0.51 + n / 100}
            rows += trained({**batches, "norm_batch": n}, evals)
    has = {
        "class-pairs" in table.title: any("0.6123" in line for line in table.rows)
        for table in text_tables(the_one(rows, "norm", "norm batch"), NOTHING)
        if not table.title.startswith("as it stands")
    }
    assert has == {False: True, True: False}


def test_what_intervals_are_over_is_said_of_those_there_are() -> None:
    """A training lost: some intervals are over trainings, others over images; and how many trainings."""
    rows = study({2: 0.0, 8: 0.0})
    assert "over 3 trainings" in noise_of(the_one(rows))
    lost = [one for one in rows if not (one["recipe"].get("seed") == 2 and one["recipe"]["norm_batch"] == 8)]
    said = noise_of(the_one(lost))
    assert "over 3 trainings" in said
    assert "elsewhere over the evaluation images" in said
    more = study({2: 0.0, 8: 0.0}, n_seeds=4)
    some = [one for one in more if not (one["recipe"].get("seed") == 2 and one["recipe"]["norm_batch"] == 8)]
    assert "over 3 to 4 trainings" in noise_of(the_one(some))


def test_intervals_are_adjusted_for_the_comparisons_that_are_told() -> None:
    """A kind of network with nothing to re-estimate is no comparison: the others' intervals stay."""
    rows = study({2: 0.05, 8: -0.03})
    only = axis_findings(the_one(rows), NOTHING)[0]
    beside = axis_findings(the_one([*rows, *trained({"norm": "gn"}, {("stored", None): 0.6})]), NOTHING)[0]
    assert "adjusted for 2 comparisons" in beside.text
    assert [i.partition(": ")[2].partition("(")[2] for i in beside.items] == [
        i.partition(": ")[2].partition("(")[2] for i in only.items
    ]


def test_a_recipe_of_a_newer_version_is_one_line() -> None:
    """A field that this version does not know: an error that names row and field."""
    rows = trained({"norm_batch": 2, "unheard_of": 3}, {("stored", None): 0.5})
    with pytest.raises(BnrecalError, match=rf"row {rows[0]['key']}: recipe: unknown setting 'unheard_of'"):
        the_one(rows)


def test_the_scatter_of_two_values_or_one_sample_is_the_usual_one() -> None:
    """With two values the block design is the paired t, with one sample the pooled deviation its own."""
    one, two = [0.5, 0.7, 0.6, 0.9], [0.4, 0.65, 0.7, 0.8]
    pairs = scatter_along({"a": one, "b": two})
    apart = [x - y for x, y in zip(one, two, strict=True)]
    assert pairs is not None
    assert (pairs.deviation, pairs.freedom) == (pytest.approx(stdev(apart)), 3)
    alone = scatter_within([apart])
    assert alone is not None
    assert (alone.deviation, alone.freedom) == (pytest.approx(stdev(apart)), 3)
    assert scatter_within([[0.1], [0.2]]) is None
    assert scatter_along({"a": [0.1]}) is None


def test_intervals_along_an_axis_cover_as_often_as_they_say() -> None:
    """4,000 studies of four values and three trainings that share their luck: 95 % within a percent."""
    drawn = np.random.default_rng(0)
    hits = 0
    for _ in range(4000):
        figures = drawn.normal(0, 0.01, 3) + drawn.normal(0, 0.004, (4, 3))
        scatter = scatter_along(dict(enumerate(figures.tolist())))
        assert scatter is not None
        gap = figures[0].mean() - figures[1].mean()
        hits += abs(gap) <= scatter.half_width(3, 0.95)
    assert 0.94 < hits / 4000 < 0.96


def test_a_field_that_follows_from_another_is_no_axis() -> None:
    """Two optimisers, each with a rate of its own: one axis, in which all cells are matched."""
    rows = [
        *trained({}, {("stored", None): 0.5, ("pooled", 64): 0.6}),
        *trained(
            {"optimizer": "adamw", "lr": 0.001, "weight_decay": 0.05},
            {("stored", None): 0.4, ("pooled", 64): 0.5},
        ),
    ]
    assert the_one(rows).training_axes == ("optimizer",)
    both = [*rows, *trained({"lr": 0.01}, {("stored", None): 0.3, ("pooled", 64): 0.4})]
    assert the_one(both).training_axes == ("optimizer", "lr")
