"""What the report concludes: right on the published cells, silent where numbers do not support it."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnrecal.report.analysis.findings import findings_of
from bnrecal.report.analysis.law import fit_law
from bnrecal.report.analysis.published import published_rows
from bnrecal.report.analysis.sections import sections_of
from tests.report.test_report import row


def said_of(rows: list[dict[str, Any]]) -> list[str]:
    return [str(finding) for finding in findings_of(sections_of(rows)[0])]


def test_the_published_law_to_its_digits() -> None:
    """A, k0 and R2 of the 33 published cells."""
    rows = published_rows()
    assert len(rows) == 33
    laws = [fit_law(a, [r for r in rows if r["arch"] == a]) for a in ("arch1", "arch2", "arch3")]
    found = [(round(w.level, 4), round(w.warmup, 1), round(w.r2, 4)) for w in laws if w]
    assert found == [(0.4965, 18.8, 0.9987), (0.5084, 15.5, 0.9996), (0.5073, 16.8, 0.9984)]


def test_the_published_report_advises_against_the_update_column(bnrecal: Callable[..., Any]) -> None:
    """Without any store: table, law and conclusion."""
    ran = bnrecal("report", "--published")
    assert ran.code == 0
    said = " ".join(ran.out.split())
    assert "arch2: A 0.5084 ± 0.0005, k0 15.5 ± 0.1, R2 0.9996" in said
    assert "Do not choose by the update column." in said
    assert "A is the mean eval metric within 0.0017" in said


@given(
    level=st.floats(0.1, 0.9),
    warmup=st.floats(1, 30),
    counts=st.lists(st.integers(40, 2000), min_size=4, max_size=12, unique=True),
)
def test_a_law_without_noise_is_found(level: float, warmup: float, counts: list[int]) -> None:
    """From cells that follow it exactly, A and k0 come back and R2 is 1."""
    rows = [row("a", 1, n, level * (1 - warmup / n), n_updates=n) for n in counts]
    law = fit_law("a", rows)
    assert law is not None
    assert law.level == pytest.approx(level, rel=1e-6)
    assert law.warmup == pytest.approx(warmup, rel=1e-4)
    assert law.r2 == pytest.approx(1)


def test_standard_errors_are_those_of_least_squares() -> None:
    """A's against scipy's linear regression; k0's against the spread of simulated fits."""
    import numpy as np
    from scipy.stats import linregress

    n = np.array([40, 80, 80, 160, 160, 320, 640])
    noise = np.random.default_rng(0).normal(0, 0.004, (2000, len(n)))
    fits = []
    for extra in noise:
        update = 0.5 * (1 - 17 / n) + extra
        rows = [row("a", 1, int(k), float(u), n_updates=int(k)) for k, u in zip(n, update, strict=True)]
        fits.append(fit_law("a", rows))
    reference = linregress(1 / n, update)
    assert fits[-1] is not None
    assert fits[-1].level_se == pytest.approx(reference.intercept_stderr, rel=1e-6)
    warmups = [law.warmup for law in fits if law]
    typical = np.median([law.warmup_se for law in fits if law])
    assert typical == pytest.approx(np.std(warmups), rel=0.15)


def test_too_little_data_is_said() -> None:
    """Three cells, or one number of updates: no law, one sentence that says so."""
    few = [row("a", 8, n, 0.3) for n in (64, 128, 256)]
    assert findings_of(sections_of(few)[0])[0].text.startswith("Too few cells")
    same_n = [row("a", bs, 40 * bs, 0.3 + bs / 1000) for bs in (8, 16, 32, 64)]
    assert findings_of(sections_of(same_n)[0])[0].text.startswith("Too few cells")


def test_a_law_that_does_not_fit_is_not_claimed() -> None:
    """Figures without order: the fit is shown as failing and nothing is concluded from it."""
    rows = [row("a", 8, 64 * 2**k, u) for k, u in enumerate([0.5, 0.2, 0.6, 0.1, 0.5])]
    said = " ".join(said_of(rows))
    assert "does not describe these cells well" in said
    assert "update column" not in said
    assert "batch size matters" not in said


def test_the_start_that_is_left() -> None:
    """(1 - a)^N at the fewest updates, and the window of (2 - a) / a batches in images."""
    rows = [row("a", 64, 64 * n, 0.3, momentum=0.1) for n in (40, 80)]
    said = " ".join(said_of(rows))
    assert "still holds, by updates: 1.5 % after 40, 0.02 % after 80." in said
    assert "19 batches; in images: 1,216 at bs 64" in said


def test_eval_is_compared_where_the_average_is_warm() -> None:
    """Spread over warm cells, and the shortfall of the worst that is not."""
    rows = [
        row("a", 64, 64 * n, 0.5, eval=e) for n, e in [(40, 0.40), (80, 0.50), (160, 0.503), (320, 0.501)]
    ]
    said = said_of(rows)
    assert "Over the cells that are warm eval varies by 0.0030 at most on each architecture." in said
    assert "Of the others the worst is a at bs 64, 2,560 images: 0.1030 below its highest warm cell." in said


@pytest.mark.parametrize(
    ("estimator", "momentum", "few"),
    [("pooled", None, "Too few cells to"), ("ema", 0.1, "Too few cells with a warm average to")],
)
def test_a_warm_average_is_named_where_there_is_one(estimator: str, momentum: float | None, few: str) -> None:
    """`pooled` averages nothing over updates that could be cold; of ema's cells these two are."""
    rows = [row("a", 64, n, 0.3, estimator=estimator, momentum=momentum) for n in (128, 256)]
    assert f"{few} say how far eval moves among them." in said_of(rows)


def test_estimators_without_update_metric_have_no_law() -> None:
    """`exact` rows hold no update figure; their section says nothing about one."""
    rows = [row("a", 8, n, 0.3, estimator="exact", momentum=None) for n in (64, 128, 256, 512)]
    found = findings_of(sections_of([{**r, "update": None} for r in rows])[0])
    assert found
    assert not [f for f in found if f.topic in ("law", "start")]


def grid(evals: Callable[[str, int, int], float], **fields: Any) -> list[dict[str, Any]]:
    """Three architectures at 4 batch sizes and 3 counts, as the published study."""
    return [
        row(arch, bs, n, 0.5 * (1 - 15 / (n / bs)), eval=evals(arch, bs, n), **fields)
        for arch in ("a", "b", "c")
        for bs in (8, 16, 32, 64)
        for n in (2560, 5120, 10240)
    ]


def jitter(arch: str, bs: int, n: int) -> float:
    """A fixed number in 0..1 that looks like none of its arguments."""
    return hash((ord(arch), bs * 7, n * 13)) % 1009 / 1009


LEVEL = {"a": 0.40, "b": 0.45, "c": 0.50}


def test_what_explains_eval_is_named_only_when_it_stands_out() -> None:
    """Eval that follows N, samples or batch size names it; scattered eval names none."""
    by_n = said_of(grid(lambda a, bs, n: LEVEL[a] - 0.5 * bs / n + 1e-4 * jitter(a, bs, n)))
    assert any("The number of updates N decides." in said for said in by_n)
    by_samples = said_of(grid(lambda a, bs, n: LEVEL[a] - 50 / n + 1e-4 * jitter(a, bs, n)))
    assert any("The number of images decides." in said for said in by_samples)
    by_size = said_of(grid(lambda a, bs, n: LEVEL[a] - bs / 1000 + 1e-4 * jitter(a, bs, n)))
    assert any("Batch size decides." in said for said in by_size)
    scattered = said_of(grid(lambda a, bs, n: LEVEL[a] + 0.01 * jitter(a, bs, n)))
    assert any("None is more than chance." in said for said in scattered)
    assert not any("decides" in said for said in scattered)


def test_more_images_help_or_harm_only_where_nearly_all_pairs_agree() -> None:
    """Published: 10,240 lower than 5,120 in nine of nine pairs; scattered eval says nothing of the kind."""
    said = said_of(published_rows())
    lower = "With 10,240 images eval is lower than with 5,120 in 9 of 9 pairs of warm cells, by 0.0020"
    assert f"{lower} on average." in said
    scattered = said_of(grid(lambda a, bs, n: LEVEL[a] + 0.01 * jitter(a, bs, n)))
    assert not any(word in text for text in scattered for word in ("eval is lower", "eval is higher"))


def test_update_against_eval_among_warm_cells() -> None:
    """Published: r = -.65 within architectures without N = 40; where both rise together it is not said."""
    assert any(
        "goes with a lower eval metric (r = -0.65 within" in text for text in said_of(published_rows())
    )
    rising = said_of(grid(lambda a, bs, n: LEVEL[a] - 0.5 * bs / n))
    assert not any("goes with a lower" in text for text in rising)


def test_the_ranking_is_compared_with_the_best_calibrated_setting() -> None:
    """Kept everywhere: tau 1. One setting that turns two around: tau 1/3 there, named."""
    kept = said_of(grid(lambda a, bs, n: LEVEL[a] + (0.001 if (bs, n) == (32, 5120) else 0)))
    assert any("is kept by 11 of the 11 other settings: Kendall's tau is 1 in each." in said for said in kept)
    turned = {"a": 0.45, "b": 0.40, "c": 0.50}
    some = said_of(grid(lambda a, bs, n: (turned if (bs, n) == (8, 2560) else LEVEL)[a] + bs / 1e6))
    assert any(
        "by 10 of the 11 other settings; Kendall's tau is 0.33 at the least (bs 8, 2,560" in s for s in some
    )
    two = said_of([r for r in grid(lambda a, bs, n: LEVEL[a]) if r["arch"] != "c"])
    assert not any("Kendall" in said for said in two)


def test_time_is_split_into_its_parts() -> None:
    """65 s + 10 ms an image in the published study; made-up parts come back; noise is called noise."""
    published = said_of(published_rows())
    assert "Time of a cell: 65 s fixed + 10 ms per image; per batch: not told from 0 (R2 0.98)." in published

    def timed(seconds: Callable[[float, float], float]) -> list[str]:
        rows = grid(lambda a, bs, n: LEVEL[a])
        return said_of([{**r, "recal_s": seconds(r["n_samples"], r["n_updates"])} for r in rows])

    exact = timed(lambda n, updates: 2 + 0.004 * n + 0.03 * updates)
    assert "Time of the update pass: 2.0 s fixed + 4 ms per image + 30 ms per batch (R2 1.00)." in exact
    noise = timed(lambda n, updates: 1 + (n * 31 + updates * 17) % 11)
    assert any("times are noisy" in said for said in noise)
    few = said_of([row("a", 8, n, 0.3) for n in (64, 128, 256)])
    assert any("Too few settings to split time" in said for said in few)


def test_repeated_orders_stand_as_their_mean_and_spread() -> None:
    """Three orders of a cell: the table holds the mean, a sentence the spread; one order: none."""
    rows = [row("a", 8, 64, 0.3, eval=e, seed=s, key=f"k{s}") for s, e in enumerate((0.50, 0.52, 0.54))]
    (section,) = sections_of(rows)
    assert section.rows[0]["eval"] == pytest.approx(0.52)
    assert "3 orders (seeds 0 to 2)" in section.title
    assert any("Over 3 orders" in said and "deviation of 0.0200" in said for said in said_of(rows))
    assert not any("orders" in said for said in said_of(rows[:1]))


def test_one_name_for_two_sets_of_weights_is_told_apart() -> None:
    """Rows of other weights never share a line of the table."""
    rows = [row("a", 8, 64, 0.3, weights_digest=d, key=d) for d in ("1111112222", "3333334444")]
    (section,) = sections_of(rows)
    assert section.archs == ("a (111111)", "a (333333)")
