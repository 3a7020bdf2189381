"""Beside the default grid stands a cheap setting, so that its advice is not the cheapest of dear ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnrecal.store.store import Store
from bnrecal.study.cells import USUAL
from tests.own_images import write_class_folders

TINY = ("--task", "tiny", "--arch", "arch1", "--bs", "8", "--samples", "64", "--no-baseline")


@pytest.fixture(autouse=True)
def _as_users_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BNRECAL_BASELINE")


@pytest.mark.parametrize(
    ("options", "n"),
    [
        ((), 3 + 36 + 3),
        (("--no-reference",), 3 + 36),
        (("--no-baseline",), 36),
        (("--repeats", "2"), 3 + 2 * (36 + 3)),
        (("--bs", "8"), 3 + 9),
        (("--bs", "8", "--reference"), 3 + 9 + 3),
        (("--samples", "1024"), 3 + 12),
        (("--estimator", "cumulative"), 3 + 36),
        (("--momentum", "0.02"), 3 + 36),
        (("--task", "tiny"), 3 + 12),
    ],
)
def test_where_no_grid_is_named_the_reference_stands_beside_it(
    bnrecal: Callable[..., Any], options: tuple[str, ...], n: int
) -> None:
    """A grid that somebody names is taken as it is, unless the reference is asked for."""
    out = bnrecal("sweep", *options, "--dry-run").out
    assert f"{n} of {n} cells to do" in out
    grown = "--reference" in options or options in ((), ("--repeats", "2"))
    assert ("pooled" in out) is grown


def test_it_is_what_one_network_is_recalibrated_by(bnrecal: Callable[..., Any]) -> None:
    """pooled, batches of 32, 1,024 images or all there are; `recalibrate` says the same of itself."""
    assert bnrecal("sweep", *TINY, "--reference", "--threads", 1).code == 0
    *grid, row = Store(Path("results")).rows()
    assert [one["estimator"] for one in grid] == ["ema"]
    assert (row["estimator"], row["batch_size"], row["n_samples"]) == ("pooled", 32, 256)
    assert USUAL == ("pooled", 32, 1024)
    alone = bnrecal(
        "recalibrate", "--task", "tiny", "--arch", "arch1", "-o", "w.safetensors", "--even-if-worse"
    )
    assert "pooled, 256 images in batches of 32, seed 0" in alone.out
    assert f"{row['eval']:.4f} after" in alone.out
    said = " ".join(bnrecal("sweep", "--help").out.split())
    assert (
        "--reference / --no-reference Measure pooled statistics of 1,024 images in batches of 32 too." in said
    )


def test_the_kept_study_gives_the_same_cells(bnrecal: Callable[..., Any]) -> None:
    """From the file beside the rows nothing is left to do; nor is a reference that the grid has as well."""
    assert bnrecal("sweep", *TINY, "--reference").code == 0
    (study,) = Path("results").glob("study-*.toml")
    assert "reference = true" in study.read_text()
    assert "all 2 cells are done" in bnrecal("sweep", "--study", study).err
    again = ("--estimator", "pooled", "--bs", "32", "--samples", "256")
    out = bnrecal("sweep", "--study", study, *again, "--dry-run", "--out", "other").out
    assert "1 of 1 cell to do" in out
    single = bnrecal("recalibrate", "--study", study, "--estimator", "pooled", "-o", "w", "--even-if-worse")
    assert single.code == 0, single.err


def test_own_images_have_it_too(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """With all images where there are fewer; not where they do not fill one batch."""
    for n, expected in ((24, True), (10, False)):
        root = tmp_path / str(n)
        write_class_folders(root, n=n, size=16)
        sets = ("--task", "imagefolder", "--calibration", root / "train", "--evaluation", root / "val")
        options = (*sets, "--model", "torchvision:mobilenet_v3_small", "--image-size", 32)
        out = bnrecal("sweep", *options, "--dry-run").out
        assert ("pooled" in out) is expected
        if expected:
            assert [line.split()[:3] for line in out.splitlines() if "pooled" in line] == [
                ["pooled", "32", str(2 * n)]
            ]
