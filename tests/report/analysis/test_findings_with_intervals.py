"""Sentences that need intervals, or a condition that may fail: each with both sides."""

from pathlib import Path
from typing import Any

import numpy as np

from bnrecal.report.analysis.findings import findings_of
from bnrecal.report.analysis.sections import sections_of
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.store import evidence
from bnrecal.store.store import Row
from tests.report.test_report import row

N_IMAGES = 2000
ORDER = np.random.default_rng(4).permutation(N_IMAGES)


def cell(folder: Path, arch: str, n: int, right: Any) -> Row:
    key = f"{ord(arch):04x}{n:08x}"
    evidence.keep(folder, key, {"correct": np.asarray(right, np.uint8)})
    return row(
        arch, 8, n, 0.1, key=key, eval=float(np.mean(right)), metric="top1", estimator="pooled", momentum=None
    )


def said(folder: Path, rows: list[Row]) -> str:
    return " ".join(map(str, findings_of(sections_of(rows)[0], Uncertainty(folder, rows))))


def easy(share: float) -> Any:
    """The easiest images right: shares differ by as few images as they can."""
    return share * N_IMAGES > ORDER


def scattered(share: float, seed: int) -> Any:
    """A share of the images right, others for each seed."""
    return share * N_IMAGES > np.random.default_rng(seed).permutation(N_IMAGES)


def test_differences_beyond_noise_are_counted(tmp_path: Path) -> None:
    """Nested outcomes differ for sure; scattered ones of one share do not, and that is what is said."""
    clear = [cell(tmp_path, "a", 64 * 2**k, easy(0.5 + 0.02 * k)) for k in range(4)]
    assert "Of 6 pairs of cells 6 differ beyond noise" in said(tmp_path, clear)
    assert "by 0.0600 at most." in said(tmp_path, clear)
    level = [cell(tmp_path, "a", 64 * 2**k, scattered(0.5, k)) for k in range(4)]
    text = said(tmp_path, level)
    assert "Of 6 pairs of cells 0 differ beyond noise" in text
    assert "nothing to choose between them by eval" in text
    assert "beyond noise" not in said(tmp_path / "nowhere", clear)  # no evidence, no such sentence


def test_architectures_that_are_not_told_apart_are_named(tmp_path: Path) -> None:
    """Two of three architectures within noise of each other at the reference setting; or none."""
    close = [
        cell(tmp_path, arch, n, right)
        for n in (64, 128)
        for arch, right in (("a", scattered(0.500, 1)), ("b", scattered(0.505, 2)), ("c", easy(0.9)))
    ]
    assert "Even there eval does not tell b from a beyond noise." in said(tmp_path, close)
    apart = [
        cell(tmp_path, arch, n, easy(share))
        for n in (64, 128)
        for arch, share in (("a", 0.5), ("b", 0.6), ("c", 0.9))
    ]
    assert "does not tell" not in said(tmp_path, apart)


def law_rows(**changed: float) -> list[Row]:
    """One architecture on the published grid; `size` adds to update by batch size, `gap` moves eval."""
    size, gap = changed.get("size", 0.0), changed.get("gap", 0.0)
    return [
        row("a", bs, n, 0.5 * (1 - 15 * bs / n) + size * np.log2(bs / 8), eval=0.5 + gap)
        for bs in (8, 16, 32, 64)
        for n in (2560, 5120, 10240)
    ]


def test_that_n_alone_matters_is_said_only_where_equal_n_agree() -> None:
    """Cells of equal N that agree: said. Moved apart by batch size: the law may fit, the sentence goes."""
    assert "batch size matters through N alone" in said(Path("nowhere"), law_rows())
    assert "batch size matters through N alone" not in said(Path("nowhere"), law_rows(size=0.03))


def test_the_update_column_is_condemned_only_where_a_is_the_eval_metric() -> None:
    """A .1 below eval: the law is shown, the conclusion is not drawn."""
    assert "Do not choose by the update column" in said(Path("nowhere"), law_rows())
    text = said(Path("nowhere"), law_rows(gap=0.1))
    assert "update = A (1 - k0 / N), N the number of updates" in text
    assert "Do not choose by the update column" not in text
