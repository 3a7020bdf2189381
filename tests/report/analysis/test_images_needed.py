"""How many images each rule needs: the fewest from which on nothing moves, by hand and beside the store."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnrecal.report.analysis.images_needed import images_needed
from bnrecal.report.analysis.sections import sections_of
from bnrecal.report.analysis.summary import make_report
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.report.formats.images_needed import sentence, to_images_needed
from bnrecal.store.store import Store
from tests.conftest import Ran
from tests.report.test_report import row

RESULTS = Path(__file__).parents[3] / "results"
Evals = dict[int, float]  # by images


def rows_of(estimator: str, bs: int, evals: Evals, arch: str = "arch1") -> list[dict[str, Any]]:
    momentum = 0.1 if estimator == "ema" else None
    return [
        row(arch, bs, n, 0.1, eval=value, estimator=estimator, momentum=momentum)
        for n, value in evals.items()
    ]


def needed(rows: list[dict[str, Any]], tolerance: float = 0.01) -> dict[tuple[str, int], int | None]:
    (found,) = images_needed(sections_of(rows), tolerance)
    return found.needed


def test_the_fewest_from_which_on_all_counts_stay_within() -> None:
    """A count that is near by luck, before one that is not, does not count."""
    rows = rows_of("pooled", 8, {64: 0.5, 128: 0.3, 256: 0.495, 512: 0.5})
    assert needed(rows) == {("pooled", 8): 256}
    assert needed(rows, 0.004) == {("pooled", 8): 512}


def test_the_reference_is_pooled_over_the_most_images_at_the_largest_batch() -> None:
    """Other rules and batch sizes are measured by it; one that never comes near needs no number."""
    rows = rows_of("ema", 8, {64: 0.1, 512: 0.48}) + rows_of("pooled", 8, {64: 0.2, 512: 0.505})
    rows += rows_of("pooled", 64, {64: 0.46, 512: 0.5})
    (found,) = images_needed(sections_of(rows), 0.01)
    assert (found.reference_rule, found.reference_images, found.reference) == ("pooled", 512, {"arch1": 0.5})
    assert found.needed == {
        ("ema, momentum 0.1", 8): None,
        ("pooled", 8): 512,
        ("pooled", 64): 512,
    }


def test_the_worst_architecture_decides_and_each_has_to_be_measured() -> None:
    """One architecture needs more images than the other; a count that lacks one of them suffices for none."""
    one, two = {64: 0.5, 128: 0.5, 256: 0.5}, {64: 0.2, 128: 0.7, 256: 0.7}
    rows = rows_of("pooled", 8, one) + rows_of("pooled", 8, two, "arch2")
    assert needed(rows) == {("pooled", 8): 128}
    lacking = [r for r in rows if (r["arch"], r["n_samples"]) != ("arch2", 128)]
    assert needed(lacking) == {("pooled", 8): 256}


def test_a_single_count_answers_nothing(bnrecal: Callable[..., Ran]) -> None:
    """No table, and in the command one line."""
    assert images_needed(sections_of(rows_of("pooled", 8, {64: 0.5})), 0.01) == []
    ran = bnrecal("report", "--out", RESULTS / "norm_batch", "--format", "images-needed")
    assert (ran.code, ran.out) == (2, "")
    assert (
        ran.err == "bnrecal: --format images-needed: no rule was measured with two counts of images or more\n"
    )


def test_what_was_not_run_is_told_from_what_is_not_reached() -> None:
    """Both stand in the table."""
    rows = rows_of("ema", 8, {64: 0.1, 512: 0.2}) + rows_of("pooled", 64, {64: 0.5, 512: 0.5})
    lines = to_images_needed(make_report(rows, tolerance=0.01)).splitlines()
    assert [cell.strip() for cell in lines[4].split("|")[1:4]] == [
        "ema, momentum 0.1",
        "not reached",
        "not run",
    ]
    assert [cell.strip() for cell in lines[5].split("|")[1:4]] == ["pooled", "not run", "64"]
    assert lines[0].endswith("over 512 images (arch1 0.5000), and stays there:")


@pytest.mark.parametrize(("tolerance", "images"), [(0.003, "20,480"), (0.001, "not reached")])
def test_the_kept_study(bnrecal: Callable[..., Ran], tolerance: float, images: str) -> None:
    """ema at batch size 8 within .003 of pooled over all images; within .001 it never stays."""
    options = ("--format", "images-needed", "--tolerance", tolerance)
    ran = bnrecal("report", "--out", RESULTS / "images_needed", *options)
    (line,) = (line for line in ran.out.splitlines() if line.startswith("| ema"))
    assert line.split("|")[2].strip() == images


def test_with_evidence_the_reference_says_how_certain_it_is(bnrecal: Callable[..., Ran]) -> None:
    """An interval for each architecture; only these three are computed, not all 429."""
    ran = bnrecal("report", "--out", RESULTS / "images_needed", "--format", "images-needed")
    assert re.search(r"arch1 0.4786 ± 0.0\d{3}, arch2 0.5795 ± 0.0\d{3}, arch3 0.6470 ± 0.0\d{3}", ran.out)
    assert "so that differences are surer" in ran.out
    (found,) = images_needed(sections_of(rows_of("pooled", 8, {64: 0.5, 128: 0.5})), 0.01)
    assert "±" not in sentence(found)


def test_a_report_that_asks_for_no_interval_computes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evidence is read when the first interval is asked for."""
    read = []
    monkeypatch.setattr(Uncertainty, "_computed", lambda self, key: read.append(key))
    made = make_report(Store(RESULTS / "published_grid").evaluated(), RESULTS / "published_grid")
    assert not read
    assert not made.has_intervals
    assert len(read) == len(set(read)) == 39
