"""Trainings that fail, are chosen again, are shown, and are shared by two sweeps: what the user meets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnrecal.cli import sweep as sweep_command
from bnrecal.errors import BnrecalError
from bnrecal.executors.executor import utc_now
from bnrecal.plan.opened import Opened, open_study
from bnrecal.store.rows import is_evaluated
from bnrecal.store.store import Store
from bnrecal.study.recipes import recipes_of
from bnrecal.study.study import read_study_file
from bnrecal.sweep.plan import plan
from bnrecal.sweep.share import Claimed, Share
from bnrecal.sweep.sweep import _lost
from tests.sweep.trained import STUDY, SWEEP, write_study

DIVERGES = STUDY.replace("norm_batch = [4, 8]", "lr = 1e30")


@pytest.fixture(autouse=True)
def _own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    write_study(tmp_path)


def trainings() -> list[dict[str, Any]]:
    return [row for row in Store(Path("results")).rows() if not is_evaluated(row)]


def test_a_sweep_stopped_by_a_failed_training_has_failed(bnrecal: Callable[..., Any]) -> None:
    """--fail-fast ends before its cells have rows: exit code 3, and --retry-failed trains again."""
    Path("study.toml").write_text(DIVERGES)
    ran = bnrecal(*SWEEP, "--fail-fast")
    assert (ran.code, len(Store(Path("results")).rows())) == (3, 1)
    assert "1 of 1 trainings failed (1 not a number)" in ran.err
    again = bnrecal(*SWEEP, "--retry-failed", "--fail-fast")
    assert (again.code, len(trainings())) == (3, 2)
    assert "1 network to train, 3 cells" in again.err


def test_force_trains_again_what_failed(bnrecal: Callable[..., Any]) -> None:
    """Every cell anew, failed trainings included: their rows are set aside with those of their cells."""
    Path("study.toml").write_text(DIVERGES)
    assert bnrecal(*SWEEP).code == 3
    ran = bnrecal(*SWEEP, "--force")
    assert (ran.code, "1 network to train, 3 cells" in ran.err) == (3, True)
    assert len(trainings()) == 1
    assert len(Path("results/rows.jsonl.replaced").read_text().splitlines()) == 4


def test_rows_of_trainings_are_shown_and_watched(bnrecal: Callable[..., Any]) -> None:
    """`show` and `report --watch` know rows that are of no evaluated cell; lines name their recipe."""
    from bnrecal.report.formats.watch import lines_of

    assert bnrecal(*SWEEP, "--samples", 16).code == 0
    rows = Store(Path("results")).rows()
    training = next(row for row in rows if not is_evaluated(row))
    shown = bnrecal("show", training["key"])
    assert (shown.code, "weights_sha256" in shown.out) == (0, True)
    cell = next(row for row in rows if is_evaluated(row))
    assert "--threads 1" in bnrecal("show", cell["key"]).out
    watched = lines_of(rows)
    assert len(watched) == len(set(watched)) == 6
    assert watched[0].startswith("trained net: norm batch 4, batch 8, epochs 3, flip: loss ")
    assert watched[1].startswith("net as it stands, norm batch 4, batch 8, epochs 3, flip: eval ")


def test_the_table_of_a_terminal_is_not_of_several_recipes(bnrecal: Callable[..., Any]) -> None:
    """One place of the grid stands for a cell of each recipe: there is no table, but a line a cell."""
    from bnrecal.report.formats.watch import picture
    from tests.report.formats.test_watch import shown

    assert bnrecal(*SWEEP, "--samples", 16).code == 0
    text = shown(picture(Store(Path("results")).evaluated(), 30))
    assert text.count("norm batch 4") == text.count("norm batch 8") == 2


def opened() -> Opened:
    return open_study(read_study_file(Path("study.toml")), {})


def test_lost_cells_are_written_by_one_of_two_sweeps() -> None:
    """Both know that the training failed; a cell has one row of it."""
    one, two = Store(Path("results")), Store(Path("results"))
    one.prepare()
    found = plan(opened(), one)
    training = found.trainings[0]
    one.append(failed_row(training))
    cells = [cell for cell in found.cells_to_do if cell.trained == training]
    shares = [Share(Claimed(store, store.claims(), found.n_rows), cells) for store in (one, two)]
    first = [outcome.cell.key for outcome in _lost(shares[0], one)]
    second = [outcome.cell.key for outcome in _lost(shares[1], two)]
    assert (len(first), second) == (3, [])
    assert [cell.key for cell in shares[1].elsewhere] == first


def failed_row(training: Any) -> dict[str, Any]:
    from bnrecal.executors.executor import Outcome
    from bnrecal.sweep.outcomes import row_of

    return row_of(Outcome(training, "cpu", utc_now(), {}, "a reason", "error"), opened().study)


def test_a_field_without_values_is_named() -> None:
    """An empty list trains nothing: an error, not a study without training."""
    with pytest.raises(BnrecalError, match=r"train\.lr: an empty list; needs a value or several"):
        recipes_of({"lr": []}, {"lr": "train.lr"})


def test_a_plan_looks_at_all_recipes_once(
    bnrecal: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not once a line: thousands of trainings by accident are to be told in seconds."""
    from bnrecal.study import recipes

    n = 0
    count = recipes.varied_fields

    def counted(found: Any) -> Any:
        nonlocal n
        n += 1
        return count(found)

    monkeypatch.setattr(recipes, "varied_fields", counted)
    assert bnrecal(*SWEEP, "--dry-run").code == 0
    assert n == 1
    assert sweep_command.MANY_TRAININGS


SUPERNET = """
from torch import nn

class Net(nn.Module):
    archs = ("0", "1")

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.ModuleList([self.one(4), self.one(6)])])

    def one(self, n):
        return nn.Sequential(
            nn.Conv2d(3, n, 3), nn.BatchNorm2d(n), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n, 2),
        )

    def subnet(self, choices):
        return self.blocks[0][choices[0]]

    def build(self, arch):
        return self.subnet([self.archs.index(arch)])

def net():
    return Net()
"""


@pytest.mark.parametrize("sampling", ["none", "uniform"])
def test_supernets_of_ones_own_are_trained_by_paths_or_a_path_alone(
    bnrecal: Callable[..., Any], sampling: str
) -> None:
    """A module with `build`: either way the cells find the weights that were trained."""
    Path("ownsuper.py").write_text(SUPERNET)
    study = STUDY.replace("learnt:net", "ownsuper:net").replace(
        "norm_batch = [4, 8]", f'sampling = "{sampling}"'
    )
    Path("study.toml").write_text(study)
    ran = bnrecal(*SWEEP)
    assert ran.code == 0, ran.err
    assert len(trainings()) == (2 if sampling == "none" else 1)
    names = ("0", "1") if sampling == "none" else ("the supernet",)
    assert [f"trained {name}: " in ran.err for name in names] == [True] * len(names)
