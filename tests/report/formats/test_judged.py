"""Sentences about judges: each with the condition under which it is said, and without."""

import json
import math

import numpy as np

from bnrecal.report.analysis.judged import Judge, Judged
from bnrecal.report.formats.judged import NO_INTERVALS, ONE_TRAINING, says, to_json, to_text
from bnrecal.search.ranking import rank
from bnrecal.search.truth import Truth

N = 60
TRUE = np.arange(float(N))


def named(values: np.ndarray) -> dict[str, float]:
    return {f"a{i:03}": float(v) for i, v in enumerate(values)}


def judged(judges: dict[str, np.ndarray], true: np.ndarray, runs: np.ndarray | None = None) -> Judged:
    values = {name: named(column) for name, column in judges.items()}
    of_runs = {} if runs is None else {f"a{i:03}": tuple(map(float, run)) for i, run in enumerate(runs)}
    truth = Truth(named(true), of_runs)
    shown = tuple(Judge(name, column, 1.0) for name, column in values.items())
    return Judged("task", shown, rank(values, truth), "truth", (), truth.values)


def luck(seed: int, n: int = N) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=n)


def test_closest_needs_an_agreement_beyond_noise() -> None:
    """Said of a judge that follows the truth; of luck, and of judges against the truth, it is said that
    nobody agrees."""
    good = {"good": TRUE + 10 * luck(0), "luck": luck(1)}
    assert says(judged(good, TRUE))[0].startswith("Closest to the truth: good, tau +0.")
    noise = {"one": luck(5), "two": luck(3)}
    assert says(judged(noise, TRUE))[0].startswith(
        "No judge agrees with the truth beyond noise; the highest: "
    )
    against = {"one": -TRUE + luck(5), "two": -TRUE}
    assert says(judged(against, TRUE))[0].startswith(
        "Every judge ranks against the truth, one the least: tau -0."
    )


def test_a_constant_judge_is_undefined_and_never_the_closest() -> None:
    """Beside a judge against the truth it would have the highest tau, were it 0."""
    found = judged({"flat": np.ones(N), "against": -TRUE}, TRUE)
    said = " ".join(says(found))
    assert said.startswith("Every judge ranks against the truth, against")
    assert "flat" not in said
    assert "undefined" in to_text(found)
    assert json.loads(to_json(found))["against_truth"]["flat"]["kendall"]["value"] is None
    assert says(judged({"flat": np.ones(N)}, TRUE)) == [
        "No judge ranks these architectures: each, or the truth, says the same of all."
    ]


def test_who_orders_alike_stands_together() -> None:
    """A judge that is another on another scale is named with it; one nearly it by how much."""
    good = TRUE + 10 * luck(0)
    said = says(judged({"good": good, "twice": 2 * good}, TRUE))
    assert said[0].startswith("Closest to the truth: good and twice, which order them alike, tau +0.")
    assert len(said) == 1
    nearly = says(judged({"good": good, "nearly": good + luck(4), "luck": luck(1)}, TRUE))
    assert nearly[1].startswith("Below it beyond noise: luck (lower by ")
    assert nearly[2].startswith("Not told from it by these 60 architectures: ")


def test_text_fits_a_terminal() -> None:
    """Letters stand for judges whose names would make a table wider than 80 columns; short ones stay."""
    long = {f"eval pooled bs 64 n {n}, epochs 8, lr 0.006": TRUE + luck(n) for n in range(3)}
    text = to_text(judged(long, TRUE))
    assert max(map(len, text.splitlines())) <= 80
    assert "a  eval pooled bs 64 n 0, epochs 8, lr 0.006" in text
    assert "The 10 highest by eval pooled bs 64 n 0, epochs 8, lr 0.006, of 60:" in text
    short = to_text(judged({"bn": TRUE + luck(0), "flops": TRUE + luck(1)}, TRUE))
    assert max(map(len, short.splitlines())) <= 80
    assert "\na  " not in short


def test_brackets_are_explained_where_there_are_some() -> None:
    """One judge without a truth has no interval to explain."""
    alone = Judge("bn", named(TRUE), 1.0)
    for judges, shown in (((alone,), False), ((alone, Judge("flops", named(TRUE + luck(0)), 1.0)), True)):
        ranking = rank({judge.name: judge.values for judge in judges})
        assert ("In brackets" in to_text(Judged("task", judges, ranking))) == shown


def test_of_few_architectures_nothing_is_said_and_no_interval_shown() -> None:
    """Nine perfect ones are no proof; ten have an interval."""
    for n, is_sure in ((9, False), (10, True)):
        found = judged({"good": TRUE[:n], "other": luck(0, n)}, TRUE[:n])
        assert any("is not said of fewer than 10" in sentence for sentence in says(found)) != is_sure
        text = to_text(found)
        assert (NO_INTERVALS in text.replace("\n", " ")) != is_sure
        assert ("[" in text) == is_sure
        assert not math.isnan(json.loads(to_json(found))["against_truth"]["good"]["kendall"]["value"])


def test_one_training_is_explained_where_it_stands() -> None:
    """With runs there is its row and what it is; without neither."""
    runs = TRUE[:, None] + np.stack([luck(0), luck(1), luck(2)], 1)
    for given, shown in ((runs, True), (None, False)):
        text = to_text(judged({"good": TRUE}, TRUE, given))
        assert ("\none training " in text) == shown
        assert (ONE_TRAINING in text.replace("\n", " ")) == shown
