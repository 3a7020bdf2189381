"""Rankings: figures with known values, intervals that cover, noise told from difference."""

import math

import numpy as np
import pytest

from bnrecal.errors import BnrecalError
from bnrecal.metrics.rank_correlation import kendall
from bnrecal.metrics.resampling import draw
from bnrecal.search.ranking import best_tenth, differences, rank, regret
from bnrecal.search.truth import Truth


def named(values: np.ndarray) -> dict[str, float]:
    return {f"a{i:04}": float(v) for i, v in enumerate(values)}


def noisy(seed: int, n: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """(truth, a judge that sees it with noise)."""
    random = np.random.default_rng(seed)
    true = random.normal(size=n)
    return true, true + noise * random.normal(size=n)


def test_a_perfect_judge_and_its_opposite() -> None:
    """tau and rho 1 and -1, no regret for the first, the whole range for the second."""
    true = np.arange(100.0)
    found = rank({"good": named(true), "bad": named(-true)}, Truth(named(true)))
    good, bad = found.against["good"], found.against["bad"]
    assert (good.kendall.value, good.spearman.value) == pytest.approx((1.0, 1.0))
    assert (bad.kendall.value, bad.spearman.value) == pytest.approx((-1.0, -1.0))
    assert good.best_tenth is not None
    assert good.best_tenth.value == pytest.approx(1.0)
    assert good.regret == {1: 0.0, 10: 0.0}
    assert bad.regret == {1: 99.0, 10: 90.0}
    assert found.between["good", "bad"].kendall.value == -1.0


def test_ties_of_a_judge_are_taken_at_their_worst() -> None:
    """A judge that says nothing may pick the k worst."""
    true = np.array([3.0, 1.0, 2.0, 0.0])
    assert regret(np.zeros(4), true, 1) == 3.0
    assert regret(np.zeros(4), true, 3) == 1.0
    assert regret(np.array([1.0, 1.0, 0.0, 0.0]), true, 1) == 2.0


def test_the_best_tenth_is_by_the_truth_and_rounded_up() -> None:
    """Of 25 the 3 highest."""
    assert sorted(best_tenth(np.arange(25.0)).tolist()) == [22, 23, 24]


def test_intervals_cover_the_tau_of_the_population() -> None:
    """Of a bivariate normal with correlation rho tau is 2/pi asin(rho): at least 90 of 100 intervals of 80
    architectures cover it (95 are meant)."""
    noise = 0.8
    expected = 2 / math.pi * math.asin(1 / math.sqrt(1 + noise**2))
    covered = 0
    for seed in range(100):
        true, judge = noisy(seed, 80, noise)
        found = rank({"it": named(judge)}, Truth(named(true)), n_resamples=300).against["it"].kendall
        covered += found.low <= expected <= found.high
    assert covered >= 90


def test_differences_of_equally_good_judges_are_noise_and_others_are_not() -> None:
    """Two judges with the same noise: 0 in the interval; with four times the noise: not."""
    random = np.random.default_rng(4)
    true = random.normal(size=300)
    judged = {
        "one": named(true + 0.5 * random.normal(size=300)),
        "like it": named(true + 0.5 * random.normal(size=300)),
        "worse": named(true + 2.0 * random.normal(size=300)),
    }
    found = rank(judged, Truth(named(true))).differences
    assert found["one", "like it"].is_noise
    assert not found["one", "worse"].is_noise
    assert found["one", "worse"].low > 0


@pytest.mark.parametrize(("n_judges", "n_archs", "trials"), [(6, 60, 60), (18, 100, 40)])
def test_of_many_equally_good_judges_the_best_is_seldom_told_from_another(
    n_judges: int, n_archs: int, trials: int
) -> None:
    """Fifteen comparisons or 153, of judges that err alike as settings of one judge do: one ranking in twenty
    may tell any two apart."""
    told = 0
    for seed in range(trials):
        random = np.random.default_rng(seed)
        true, alike = random.normal(size=(2, n_archs))
        columns = {
            f"judge {k}": true + 0.5 * alike + 0.7 * random.normal(size=n_archs) for k in range(n_judges)
        }
        found = differences(columns, true, draw(n_archs, 300))
        told += any(not figure.is_noise for figure in found.values())
    assert told <= 0.125 * trials


def test_a_judge_and_its_copy_do_not_differ() -> None:
    """Their interval is 0 to 0; a third judge's width does not hang on them."""
    random = np.random.default_rng(4)
    true = random.normal(size=40)
    one, other = named(true + random.normal(size=40)), named(true + random.normal(size=40))
    found = rank({"one": one, "copy": one, "other": other}, Truth(named(true))).differences
    same = found["one", "copy"]
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert same.is_noise
    alone = rank({"one": one, "other": other}, Truth(named(true))).differences["one", "other"]
    assert found["one", "other"] == alone


def test_one_training_judges_the_mean_of_the_others() -> None:
    """Mean tau over the runs; None with a single run."""
    true = np.arange(60.0)
    same = {arch: (v, v, v) for arch, v in named(true).items()}
    ceiling = rank({"it": named(true)}, Truth(named(true), same)).ceiling
    assert ceiling is not None
    assert (ceiling.kendall.value, ceiling.n_runs) == (1.0, 3)
    random = np.random.default_rng(1)
    luck = {arch: tuple(random.normal(size=2)) for arch in same}
    nothing = rank({"it": named(true)}, Truth(named(true), luck)).ceiling
    assert nothing is not None
    assert nothing.kendall.is_noise
    single = {arch: runs[:1] for arch, runs in luck.items()}
    assert rank({"it": named(true)}, Truth(named(true), single)).ceiling is None
    assert rank({"it": named(true)}, Truth(named(true))).ceiling is None


def test_only_architectures_that_all_know_are_ranked() -> None:
    """Others are left out, whoever lacks them; two are too few."""
    a, b = {"x": 1.0, "y": 2.0, "z": 3.0, "w": 4.0}, {"x": 1.0, "y": 2.0, "z": 3.0, "v": 9.0}
    assert rank({"a": a, "b": b}).archs == ("x", "y", "z")
    with pytest.raises(BnrecalError, match="2 architectures are known to every judge and the truth"):
        rank({"a": a, "b": b}, Truth({"x": 1.0, "y": 0.0}))


def test_the_same_figures_again() -> None:
    """Resamples have a seed of their own."""
    true, judge = noisy(0, 50, 1.0)
    first = rank({"it": named(judge)}, Truth(named(true)))
    assert first == rank({"it": named(judge)}, Truth(named(true)))


def test_a_judge_that_says_the_same_of_all_ranks_nothing() -> None:
    """Its figures are undefined, and it takes no part in how wide the others' differences are; nothing is
    ranked of a truth that is the same for all."""
    true, judge = noisy(0, 40, 1.0)
    flat = named(np.ones(40))
    found = rank({"it": named(judge), "flat": flat, "bad": named(-judge)}, Truth(named(true)))
    assert not found.against["flat"].kendall.is_defined
    assert not found.against["flat"].spearman.is_defined
    assert not found.between["it", "flat"].kendall.is_defined
    assert not found.differences["it", "flat"].is_defined
    assert found.differences["it", "flat"].is_noise
    alone = rank({"it": named(judge), "bad": named(-judge)}, Truth(named(true)))
    assert found.differences["it", "bad"] == alone.differences["it", "bad"]
    assert not rank({"it": named(judge)}, Truth(flat)).against["it"].kendall.is_defined


@pytest.mark.parametrize(("n", "is_sure"), [(9, False), (10, True)])
def test_few_architectures_have_no_interval(n: int, is_sure: bool) -> None:
    """An order of few comes out perfect by chance, and then in every resample."""
    true, judge = noisy(1, n, 0.5)
    found = rank({"it": named(judge), "other": named(-judge)}, Truth(named(true)))
    figures = [
        found.against["it"].kendall,
        found.against["it"].spearman,
        found.between["it", "other"].kendall,
    ]
    assert {figure.is_sure for figure in (*figures, found.differences["it", "other"])} == {is_sure}
    assert all(figure.is_defined for figure in figures)
    if not is_sure:
        assert all(figure.is_noise for figure in figures)


def test_intervals_of_differences_end_where_differences_do() -> None:
    """Two taus are 2 apart at most."""
    true = np.arange(10.0)
    other = true.copy()
    other[[0, 5]] = other[[5, 0]]
    found = rank({"good": named(other), "bad": named(-other)}, Truth(named(true))).differences["good", "bad"]
    assert found.value < found.high <= 2


def test_the_best_of_all_there_are_is_no_regret_to_speak_of() -> None:
    """Ten of ten are everyone, whatever the judge says."""
    for n, known in ((10, False), (11, True)):
        true = np.arange(float(n))
        regret_10 = rank({"bad": named(-true)}, Truth(named(true))).against["bad"].regret[10]
        assert (regret_10 is not None) == known


def test_one_training_is_not_held_against_its_own_luck() -> None:
    """Runs as noisy as architectures differ: within the tenth of their common mean two runs disagree, since
    the luck of one replaces that of the other. Held against the others, one agrees by what they share."""
    shares, within_mean = [], []
    for seed in range(20):
        random = np.random.default_rng(seed)
        quality = random.normal(size=300)
        runs = quality[:, None] + random.normal(size=(300, 3))
        truth = Truth(named(runs.mean(1)), {f"a{i:04}": tuple(map(float, run)) for i, run in enumerate(runs)})
        ceiling = rank({"it": named(quality)}, truth, n_resamples=50).ceiling
        assert ceiling is not None
        assert ceiling.best_tenth is not None
        shares.append(ceiling.best_tenth.value)
        top = best_tenth(runs.mean(1))
        within_mean.append(kendall(runs[top, 0], runs[top, 1]))
    assert np.mean(within_mean) < 0
    assert np.mean(shares) > 0.05
