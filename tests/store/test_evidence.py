"""Per-image evidence beside the rows: written whole, read back, harmless when missing."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bnrecal import networks, tasks
from bnrecal.errors import BnrecalError
from bnrecal.executors.executor import Job
from bnrecal.executors.inline import Inline
from bnrecal.measure.recalibrated import measure
from bnrecal.metrics.resampling import n_images, resampled
from bnrecal.plan.grid import cells_of
from bnrecal.plan.opened import Opened
from bnrecal.plan.passes import passes_of
from bnrecal.store import evidence
from bnrecal.store.store import Store
from bnrecal.study.study import make_study
from bnrecal.sweep.plan import plan
from bnrecal.sweep.sweep import sweep

KEY = "0123456789abcdef0123"


def test_a_sweep_keeps_the_evidence_of_every_figure(tmp_path: Path) -> None:
    """Each row's eval comes back from its side file, to the last digits; `exact` rows too."""
    study = make_study(
        {
            "task": "tiny",
            "arch": ["arch1"],
            "bs": [8],
            "samples": [32, 64],
            "estimator": ["stored", "ema", "exact"],
        }
    )
    store = Store(tmp_path)
    store.prepare()
    executor = Inline(Job(study, "cpu"))
    rows = list(sweep(plan(Opened.of(study), store), store, executor, lambda *_: None))
    assert len(rows) == 5
    for row in rows:
        kept = evidence.load(tmp_path, row["key"])
        assert kept is not None
        once = np.ones((n_images(kept), 1), np.int32)
        assert resampled(kept, once)[0] == pytest.approx(row["eval"], abs=1e-12)
    assert not list(tmp_path.glob("evidence/*.part"))


def test_missing_evidence_is_none_and_damage_is_named(tmp_path: Path) -> None:
    """No file: None. Half a file, or text: one line with its path."""
    assert evidence.load(tmp_path, KEY) is None
    evidence.keep(tmp_path, KEY, {"correct": np.ones(3000, np.uint8)})
    path = tmp_path / "evidence" / f"{KEY}.npz"
    whole = path.read_bytes()
    for damaged in (whole[:50], b"", b"no archive", whole[:60] + bytes(20) + whole[80:]):
        path.write_bytes(damaged)
        with pytest.raises(BnrecalError, match=f"{KEY}.npz: damaged"):
            evidence.load(tmp_path, KEY)


@pytest.mark.parametrize("key", ["../../etc/passwd", "published-arch1-8-2560", "", "ABCDEF0123"])
def test_a_key_that_is_no_digest_names_no_file(tmp_path: Path, key: str) -> None:
    """Rows are read from files others wrote: a key never becomes a path elsewhere."""
    assert evidence.path_of(tmp_path, key) is None
    assert evidence.load(tmp_path, key) is None


def test_evidence_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file in the folder's place: one line, nothing left behind."""
    (tmp_path / "evidence").write_text("mine")
    with pytest.raises(BnrecalError, match="--out: cannot write"):
        evidence.keep(tmp_path, KEY, {"correct": np.ones(3, np.uint8)})


def test_repeats_are_cells_of_other_orders() -> None:
    """`repeats` R: the whole grid for seeds seed .. seed + R - 1, each with its own order of images."""
    study = make_study(
        {
            "task": "tiny",
            "arch": ["arch1"],
            "bs": [8],
            "samples": [64],
            "repeats": 3,
            "seed": 5,
            "baseline": False,
        }
    )
    cells = cells_of(Opened.of(study))
    assert [cell.seed for cell in cells] == [5, 6, 7]
    assert len({cell.order_digest for cell in cells}) == len(passes_of(cells)) == 3
    alone = make_study(
        {"task": "tiny", "arch": ["arch1"], "bs": [8], "samples": [64], "seed": 6, "baseline": False}
    )
    assert cells[1].key == cells_of(Opened.of(alone))[0].key


def test_without_the_update_metric_eval_is_the_same() -> None:
    """`update_metric=False` leaves out the predictions of the pass, and changes nothing else."""
    study = make_study({"task": "tiny", "arch": ["arch2"], "bs": [8], "samples": [64], "baseline": False})
    task, source = tasks.of(study), networks.of(study, tasks.of(study))
    (todo,) = passes_of(cells_of(Opened.of(study)))
    found = [
        next(
            measure(
                todo, task, source.build("arch2"), torch.device("cpu"), lambda _: None, update_metric=with_
            )
        )
        for with_ in (True, False)
    ]
    assert found[0].update is not None
    assert found[1].update is None
    assert found[0].eval == found[1].eval
