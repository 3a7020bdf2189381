"""What a grid's report advises, and intervals: right where they can be, careful where they cannot."""

import re
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


def stands(folder: Path, right: Any, arch: str = "a") -> Row:
    """The network as it stands."""
    key = f"{ord(arch[0]):04x}ffffffff"
    as_it_is = {"estimator": "stored", "momentum": None, "seed": None, "order_digest": None, "n_updates": 0}
    share = kept(folder, key, right)
    found = row(arch, 8, 64, 0.1, key=key, eval=share, recal_s=0.0, metric="top1", **as_it_is)
    return found | {"batch_size": None, "n_samples": 0, "update": None}


def test_the_cheapest_setting_that_is_shown_not_to_be_worse(tmp_path: Path) -> None:
    """Four images of 4,000 differ: the interval stays within .003, and the cheap setting is advised."""
    rows = [cell(tmp_path, 1024, differing(4)), cell(tmp_path, 2048, differing(8, 2))]
    text = said(rows, tmp_path)
    assert text.startswith("Use ema, momentum 0.1, batches of 8, 1,024 images. It is the cheapest")
    assert "with 95 % confidence by no more than 0.00" in text
    assert "too few to show" not in text
    assert "Cost: 10 s an architecture (the update pass alone), 2.8 h for 1,000" in text


def test_what_is_not_told_apart_is_not_paid_for(tmp_path: Path) -> None:
    """Half the images differ and neither is shown better: the cheap one, and how many images would tell."""
    rows = [cell(tmp_path, 1024, differing(2000)), cell(tmp_path, 2048, differing(8, 4))]
    text = said(rows, tmp_path)
    assert text.startswith("Use ema, momentum 0.1, batches of 8, 1,024 images.")
    assert "4,000 evaluation images are too few to show a difference of 0.003" in text
    found = re.search(r"interval is ±(0\.\d{4})\. About ([\d,]+) would do", text)
    assert found
    needed = 4000 * (float(found[1]) / 0.003) ** 2
    assert int(found[2].replace(",", "")) == pytest.approx(needed, rel=0.12)
    assert float(found[1]) == pytest.approx(1.96 * 2000**0.5 / 4000, rel=0.1)


def test_what_is_shown_worse_is_not_advised_and_the_bound_is_that_of_the_rivals(tmp_path: Path) -> None:
    """The cheap one loses 200 of 4,000: the middle one is best, and its bound is about the dearest."""
    worse, best, dearest = differing(200, -200), HARD, differing(40, -4)
    rows = [cell(tmp_path, n, r) for n, r in ((512, worse), (1024, best), (2048, dearest))]
    text = said(rows, tmp_path)
    assert "images. It has the highest mean eval of the 3 settings measured" in text
    assert "the one with fewer images is shown worse by more than 0.003" in text
    high = Uncertainty(tmp_path, rows).difference(rows[2], rows[1])
    assert high is not None
    assert high[1] > 0
    assert f"No setting with more images is better by more than {high[1]:.4f}" in text
    wide = [*rows[:2], cell(tmp_path, 2048, differing(400, -4))]
    high = Uncertainty(tmp_path, wide).difference(wide[2], wide[1])
    assert high is not None
    assert high[1] > 0.003
    text = said(wide, tmp_path)
    assert f"2,048 images may still be better: the 95 % interval of the difference is {high[0]:+.4f}" in text
    clear = [*rows[:2], cell(tmp_path, 2048, differing(200, -200))]
    assert "Each setting with more images is shown lower" in said(clear, tmp_path)


def test_no_more_images_measured_is_said(tmp_path: Path) -> None:
    """The best reads the most images: more may give more; where more were measured it is not said."""
    rows = [cell(tmp_path, 512, differing(200, -200)), cell(tmp_path, 1024, HARD)]
    assert "No setting with more images was measured; more may give more." in said(rows, tmp_path)
    more = [*rows, cell(tmp_path, 2048, HARD)]
    assert "may give more" not in said(more, tmp_path)
    assert "No setting with more images is shown better, with 95 % confidence." in said(more, tmp_path)
    assert "by more than 0.0000" not in said(more, tmp_path)


def test_a_loss_on_one_architecture_is_named(tmp_path: Path) -> None:
    """Within noise on one of two: its figure, its name and its interval stand in the advice."""
    rows = [
        *(cell(tmp_path, n, HARD, "a") for n in (1024, 2048)),
        cell(tmp_path, 1024, differing(300, -20), "b"),
        cell(tmp_path, 2048, HARD, "b"),
    ]
    text = said(rows, tmp_path)
    assert "1,024 images." in text[:60]
    interval = Uncertainty(tmp_path, rows).difference(rows[3], rows[2])
    assert interval is not None
    ends = f"{interval[0]:+.4f} to {interval[1]:+.4f}"
    assert f"falls short of that by 0.0050 (b, 95 % interval {ends})" in text


def test_harm_is_said_first(tmp_path: Path) -> None:
    """Re-estimating loses 400 of 4,000 in every setting: leave it, and no setting is recommended."""
    cells = [cell(tmp_path, n, differing(400, -400)) for n in (1024, 2048)]
    text = said([stands(tmp_path, HARD), *cells], tmp_path)
    assert text.startswith("Leave a as it stands: re-estimating makes it worse, from 0.")
    assert "lost 0.1000, 95 % interval" in text
    assert "Use" not in text.replace("Used", "")
    assert "Cost" not in text
    assert "another estimator may need fewer images" not in text
    assert "another estimator may need fewer images" in said(cells, tmp_path)
    (advice,) = advice_of(sections_of([stands(tmp_path, HARD), *cells]), Uncertainty(tmp_path, cells))
    assert advice.verdict == "leave"


def test_harm_to_one_architecture_leaves_that_one(tmp_path: Path) -> None:
    """Worse on b, repaired on a: b is left, the setting is for a."""
    rows = [
        stands(tmp_path, differing(800, -800), "a"),
        stands(tmp_path, HARD, "b"),
        *(cell(tmp_path, n, HARD, "a") for n in (1024, 2048)),
        *(cell(tmp_path, n, differing(400, -400), "b") for n in (1024, 2048)),
    ]
    text = said(rows, tmp_path)
    assert text.startswith("Leave b as it stands: re-estimating makes it worse")
    assert "For a: use ema, momentum 0.1, batches of 8, 1,024 images." in text
    assert "It repairs a: top-1" in text


def test_a_setting_that_harms_is_no_candidate_where_another_does_not(tmp_path: Path) -> None:
    """The cheap one is worse than nothing, the dear one better: the dear one, and the other is told."""
    rows = [
        stands(tmp_path, differing(200, -200)),
        cell(tmp_path, 512, differing(400, -400)),
        cell(tmp_path, 1024, HARD),
    ]
    text = said(rows, tmp_path)
    assert text.startswith("Use ema, momentum 0.1, batches of 8, 1,024 images.")
    assert "Left out: 1 setting shown worse than the network as it stands." in text


def test_neither_shown_better_is_said_before_a_setting(tmp_path: Path) -> None:
    """Forty images differ, as many won as lost: not shown to help, and no setting is urged."""
    rows = [stands(tmp_path, HARD), *(cell(tmp_path, n, differing(40)) for n in (1024, 2048))]
    text = said(rows, tmp_path)
    assert text.startswith("Re-estimating is not shown to help a: top-1 0.")
    assert "If they are re-estimated all the same, use ema" in text
    assert "repairs" not in text


def test_a_repair_is_said_plainly(tmp_path: Path) -> None:
    """A single setting that repairs is advised too; without `stored` that is said."""
    one = cell(tmp_path, 1024, HARD)
    text = said([stands(tmp_path, differing(800, -800)), one], tmp_path)
    assert "It repairs a: top-1 0." in text
    assert "It is the only setting measured." in text
    assert "as it stands was not measured" in said([one, cell(tmp_path, 2048, HARD)], tmp_path)


def test_a_network_that_gets_nothing_right_gives_no_advice(tmp_path: Path) -> None:
    """0 in every cell: the classes are asked for, no setting is named; one image right is enough to go on."""
    nothing = np.zeros(500, bool)
    rows = [stands(tmp_path, nothing), cell(tmp_path, 1024, nothing), cell(tmp_path, 2048, nothing)]
    text = said(rows, tmp_path)
    assert text.startswith("top-1 is 0 in every cell measured, which says nothing about settings")
    assert "--classes" in text
    assert "1,024" not in text
    one = nothing.copy()
    one[7] = True
    rows[1] = cell(tmp_path, 1024, one)
    assert said(rows, tmp_path).startswith("Re-estimating is not shown to help")


def test_the_cost_is_explained_where_it_is_said(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """The table's footnote, of two settings that get nothing right and of two that do."""
    for right, said in ((np.zeros(500, bool), False), (HARD[:500], True)):
        folder = tmp_path / str(said)
        store = Store(folder)
        store.prepare()
        for n in (1024, 2048):
            store.append(cell(folder, n, right, started_at="2026-01-01T00:00"))
        out = bnrecal("report", "--out", folder).out
        assert ("Cost    of the update pass alone" in out) == said
        assert ("Cost: " in out) == said


def test_orders_are_counted(tmp_path: Path) -> None:
    """One order is called one, with --repeats where few images were read; several give their spread."""
    few = [cell(tmp_path, 512, HARD), cell(tmp_path, 1016, HARD)]
    assert "--repeats 5" in said([r | {"momentum": 0.5, "n_updates": 64} for r in few], tmp_path)
    many = [cell(tmp_path, n, HARD) for n in (1024, 2048)]
    text = said(many, tmp_path)
    assert "Measured in one order of the images. " in text
    assert "--repeats" not in text
    others = [r | {"seed": 1, "key": f"{r['key']}01", "eval": r["eval"] - 0.01} for r in many]
    text = said([*many, *others], None)
    assert "Mean over 2 orders of the images, between which eval has a standard deviation of 0.0071." in text
    assert "one order" not in text


def test_a_cheaper_exact_is_weighed_by_seconds(tmp_path: Path) -> None:
    """`exact` on fewer images that takes longer than the others is not the cheapest; faster it is."""
    rows = [cell(tmp_path, n, HARD) for n in (1024, 2048)]
    for seconds, expected in ((50.0, "Use ema"), (1.0, "Use exact")):
        exact = cell(tmp_path, 512, HARD, estimator="exact") | {"recal_s": seconds, "momentum": None}
        assert said([*rows, exact], tmp_path).startswith(expected)


def test_without_evidence_advice_is_as_measured() -> None:
    """The published study: its cheapest warm cells, and no claim of certainty."""
    text = said(published_rows(), None)
    assert text.startswith("Use ema, batches of 32, 2,560 images. It is the cheapest that is not shown worse")
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


def test_a_study_without_the_network_as_it_stands_says_so(tmp_path: Path) -> None:
    """Such rows cannot tell whether re-estimating harms; with that row the sentence is gone."""
    rows = [cell(tmp_path, 1024, differing(4)), cell(tmp_path, 2048, differing(8, 2))]
    assert "the network as it stands was not measured" in said(rows, tmp_path)
    assert "was not measured" not in said([*rows, stands(tmp_path, ~HARD)], tmp_path)
