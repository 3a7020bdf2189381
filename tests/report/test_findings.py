"""What the report concludes: right on the published cells, silent where numbers do not support it."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnrecal.report.findings import findings_of
from bnrecal.report.law import fit_law
from bnrecal.report.published import published_rows
from bnrecal.report.sections import sections_of
from tests.report.test_report import row


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
    assert "arch2: A 0.5084 +- 0.0005, k0 15.5 +- 0.1, R2 0.9996" in said
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
    assert findings_of(sections_of(few)[0])[0].startswith("Too few cells")
    same_n = [row("a", bs, 40 * bs, 0.3 + bs / 1000) for bs in (8, 16, 32, 64)]
    assert findings_of(sections_of(same_n)[0])[0].startswith("Too few cells")


def test_a_law_that_does_not_fit_is_not_claimed() -> None:
    """Figures without order: the fit is shown as failing and nothing is concluded from it."""
    rows = [row("a", 8, 64 * 2**k, u) for k, u in enumerate([0.5, 0.2, 0.6, 0.1, 0.5])]
    said = " ".join(findings_of(sections_of(rows)[0]))
    assert "does not describe these cells well" in said
    assert "update column" not in said
    assert "batch size matters" not in said


def test_the_start_that_is_left() -> None:
    """(1 - a)^N at the fewest updates, and the window of (2 - a) / a batches in images."""
    rows = [row("a", 64, 64 * n, 0.3, momentum=0.1) for n in (40, 80)]
    said = " ".join(findings_of(sections_of(rows)[0]))
    assert "After 40 updates 1.5% of the start" in said
    assert "19 batches; in images: 1,216 at bs 64" in said


def test_eval_is_compared_where_the_average_is_warm() -> None:
    """Spread over warm cells, and the shortfall of the worst that is not."""
    rows = [
        row("a", 64, 64 * n, 0.5, eval=e) for n, e in [(40, 0.40), (80, 0.50), (160, 0.503), (320, 0.501)]
    ]
    said = findings_of(sections_of(rows)[0])
    assert "Over the cells that are warm eval varies by 0.0030 at most on each architecture." in said
    assert "Of the others the worst is a at bs 64, 2,560 samples: 0.1030 below its best." in said


def test_estimators_without_update_metric_have_no_law() -> None:
    """`exact` rows hold no update figure; their section says no more than they support."""
    rows = [row("a", 8, n, 0.3, estimator="exact", momentum=None) for n in (64, 128, 256, 512)]
    section = sections_of([{**r, "update": None} for r in rows])[0]
    assert findings_of(section)[0].startswith("Too few cells")
