"""Studies with several `[[train]]` tables: their recipes are joined, each once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnrecal.errors import BnrecalError
from bnrecal.plan.opened import open_study
from bnrecal.store.store import Store
from bnrecal.study.study import read_study_file
from tests.sweep.trained import STUDY, SWEEP, write_study

TWO = (
    STUDY.replace("[train]", "[[train]]") + "\n[[train]]\nnorm_batch = 8\nbatch_size = [8, 16]\nepochs = 3\n"
)


@pytest.fixture(autouse=True)
def _own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    write_study(tmp_path, TWO + 'augment = "flip"\n')


def opened(text: str) -> Any:
    Path("other.toml").write_text(text)
    return open_study(read_study_file(Path("other.toml")), {})


def test_the_tables_are_joined(bnrecal: Callable[..., Any]) -> None:
    """Norm batches 4 and 8 of eight images, and 8 of eight and of sixteen: three networks, not four; the
    study that is kept beside the rows plans the same cells."""
    ran = bnrecal(*SWEEP)
    assert ran.code == 0, ran.err
    assert "3 networks to train, 9 cells" in ran.err
    found = {
        (row["recipe"]["norm_batch"], row["recipe"]["batch_size"]) for row in Store(Path("results")).rows()
    }
    assert found == {(4, 8), (8, 8), (8, 16)}
    (kept,) = Path("results").glob("study-*.toml")
    again = bnrecal("sweep", "--study", kept, "--dry-run")
    assert "0 of 9 cells to do" in again.out, again.out


def test_one_table_is_the_study_it_was() -> None:
    """In brackets of either kind it asks for the same recipes."""
    one, listed = opened(STUDY), opened(STUDY.replace("[train]", "[[train]]"))
    assert [recipe.key for recipe in one.recipes] == [recipe.key for recipe in listed.recipes]


def test_a_setting_is_named_with_its_table() -> None:
    """By the number of the table, from 1."""
    with pytest.raises(BnrecalError, match=r"train\[2\]\.lr: "):
        opened(STUDY.replace("[train]", "[[train]]") + "\n[[train]]\nlr = -1\n")


def test_no_table_at_all_is_no_study_without_training() -> None:
    """An empty list of tables trains nothing: an error."""
    with pytest.raises(BnrecalError, match=r"train: an empty list; needs a table of settings or several"):
        opened("train = []\n" + STUDY.partition("[train]")[0])
