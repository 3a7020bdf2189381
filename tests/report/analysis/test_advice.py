"""What a grid's report advises, and intervals: right where they can be, careful where they cannot."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnrecal.errors import BnrecalError
from bnrecal.metrics.resampling import N_RESAMPLES
from bnrecal.report.analysis.advice import advice_of
from bnrecal.report.analysis.durations import spoken
from bnrecal.report.analysis.published import published_rows
from bnrecal.report.analysis.sections import sections_of
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.store import evidence
from bnrecal.store.store import Row, Store
from tests.report.test_report import row


def kept(folder: Path, key: str, right: Any) -> float:
    """Evidence on disk; returns its figure."""
    evidence.keep(folder, key, {"correct": np.asarray(right, np.uint8)})
    return float(np.mean(right))


def cell(folder: Path, n: int, right: Any, arch: str = "a", **fields: Any) -> Row:
    key = f"{ord(arch[0]):04x}{n:08x}"
    share = kept(folder, key, right)
    return row(arch, 8, n, 0.1, key=key, eval=share, recal_s=n / 100, metric="top1", **fields)


def said(rows: list[Row], folder: Path | None, tolerance: float = 0.003) -> str:
    (advice,) = advice_of(sections_of(rows), Uncertainty(folder, rows), tolerance)
    return " ".join(advice.sentences())


HARD = np.random.default_rng(0).random(4000) < 0.6


def differing(n: int, better: int = 0) -> Any:
    """HARD with `n` images turned, of which `better` more are won than lost."""
    turned = HARD.copy()
    won, lost = np.flatnonzero(~HARD), np.flatnonzero(HARD)
    turned[won[: (n + better) // 2]] = True
    turned[lost[: (n - better) // 2]] = False
    return turned


def test_the_cheapest_setting_that_is_shown_not_to_be_worse(tmp_path: Path) -> None:
    """Four images of 4,000 differ: the interval stays within .003, and the cheap setting is advised."""
    rows = [cell(tmp_path, 64, differing(4)), cell(tmp_path, 128, HARD)]
    text = said(rows, tmp_path)
    assert text.startswith("Use ema, momentum 0.1, batches of 8, 64 images.") or "of the highest mean" in text
    rows = [cell(tmp_path, 64, differing(4)), cell(tmp_path, 128, differing(8, 2))]
    text = said(rows, tmp_path)
    assert text.startswith("Use ema, momentum 0.1, batches of 8, 64 images.")
    assert "with 95 % confidence by no more than 0.00" in text
    assert "Cost: 0.64 s an architecture (update pass), 11 min for 1,000" in text


def test_a_difference_that_may_be_large_is_not_enough(tmp_path: Path) -> None:
    """As good as measured, but half the images differ: the dearer is advised, and the text says why."""
    rows = [cell(tmp_path, 64, differing(2000)), cell(tmp_path, 128, differing(8, 4))]
    text = said(rows, tmp_path)
    assert text.startswith("Use ema, momentum 0.1, batches of 8, 128 images, of the highest mean eval")
    assert "no cheaper setting of the 2 measured is certain (95 %) to come within 0.003" in text


def test_without_evidence_advice_is_as_measured() -> None:
    """The published study: its cheapest warm cells, and no claim of certainty."""
    text = said(published_rows(), None)
    assert text.startswith("Use ema, batches of 32, 2,560 images. As measured it falls short")
    assert "there is no per-image evidence" in text
    assert "90 s an architecture (everything, mean), 25.0 h for 1,000" in text


def test_a_setting_must_serve_every_architecture(tmp_path: Path) -> None:
    """Good on one, bad on the other, or measured on one alone: not advised."""
    rows = [
        cell(tmp_path, 64, HARD, "a"),
        cell(tmp_path, 64, HARD & (np.arange(4000) % 10 > 0), "b"),
        cell(tmp_path, 128, HARD, "a"),
        cell(tmp_path, 128, HARD, "b"),
        cell(tmp_path, 32, HARD, "a"),
    ]
    assert "batches of 8, 128 images" in said(rows, tmp_path).partition(".  ")[0][:60]


def test_one_setting_gives_no_advice(tmp_path: Path) -> None:
    """Nothing to compare with, nothing said; failed cells count as not measured."""
    rows = [cell(tmp_path, 64, HARD), cell(tmp_path, 128, HARD) | {"status": "failed", "error": "x"}]
    assert advice_of(sections_of(rows), Uncertainty(tmp_path, rows)) == []


def test_intervals_are_those_of_the_resamples(tmp_path: Path) -> None:
    """A share of .6 over 4,000 images: the interval is the binomial one; paired differences are narrower."""
    rows = [cell(tmp_path, 64, HARD), cell(tmp_path, 128, differing(40))]
    uncertainty = Uncertainty(tmp_path, rows)
    share = float(HARD.mean())
    half = uncertainty.half_width(rows[0])
    assert half == pytest.approx(1.96 * (share * (1 - share) / 4000) ** 0.5, rel=0.08)
    difference = uncertainty.difference(rows[0], rows[1])
    assert difference is not None
    assert (difference[1] - difference[0]) / 2 == pytest.approx(1.96 * 40**0.5 / 4000, rel=0.1)
    assert uncertainty.figures(rows[0]).shape == (N_RESAMPLES,)  # type: ignore[union-attr]


def test_other_images_are_not_paired(tmp_path: Path) -> None:
    """Different data sets, or no evidence: no interval of a difference."""
    one, two = cell(tmp_path, 64, HARD), cell(tmp_path, 128, HARD, data_digest="other")
    uncertainty = Uncertainty(tmp_path, [one, two])
    assert uncertainty.difference(one, two) is None
    assert uncertainty.interval(one | {"key": "00000000ffffffff"}) is None
    assert Uncertainty(None).interval(one) is None


def test_evidence_that_contradicts_itself_is_named(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """Arrays of another kind in the file of a cell: one line that names it, exit code 2."""
    store = Store(tmp_path / "results")
    store.prepare()
    store.append(row("a", 8, 64, 0.5, key="00aa00aa"))
    evidence.keep(store.folder, "00aa00aa", {"nonsense": np.zeros(3)})
    ran = bnrecal("report", "--out", store.folder)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "00aa00aa.npz: damaged: evidence of unknown kind" in ran.err


def test_too_few_images_give_no_interval(tmp_path: Path) -> None:
    """Ten images say nothing about others."""
    one = cell(tmp_path, 64, HARD[:10])
    assert Uncertainty(tmp_path, [one]).interval(one) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0123, "0.012 s"),
        (3.44, "3.4 s"),
        (45, "45 s"),
        (720, "12 min"),
        (12600, "3.5 h"),
        (181440, "2.1 days"),
    ],
)
def test_durations_are_said_as_people_do(seconds: float, words: str) -> None:
    """Two or three digits and the unit that fits."""
    assert spoken(seconds) == words


def test_bnrecalerror_is_what_damage_raises(tmp_path: Path) -> None:
    """The library raises the one class of the house."""
    one = cell(tmp_path, 64, HARD)
    evidence.keep(
        tmp_path,
        one["key"],
        {
            "image": np.zeros(5, int),
            "hit": np.zeros(2),
            "start": np.zeros(1),
            "objects": np.ones((3, 40), int),
        },
    )
    with pytest.raises(BnrecalError, match="damaged"):
        Uncertainty(tmp_path, [one]).interval(one)


def test_a_cold_average_is_no_candidate(tmp_path: Path) -> None:
    """A lucky cell after 8 updates (43 % of the start left) is neither best nor advised; it is mentioned."""
    warm = [cell(tmp_path, n, HARD) for n in (1024, 2048)]
    lucky = cell(tmp_path, 64, differing(400, 200))
    text = said([*warm, lucky], tmp_path)
    assert text.startswith("Use ema, momentum 0.1, batches of 8, 1,024 images")
    assert "Left out: 1 setting whose exponential average still holds more than 0.2%" in text
    assert "Left out" not in said(warm, tmp_path)
