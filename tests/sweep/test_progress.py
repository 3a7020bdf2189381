"""What a run shows while it works."""

import io
import re

import pytest
from rich.console import Console

from bnrecal.study.cells import JUDGE, Training, TrainingPass
from bnrecal.study.recipe import Recipe
from bnrecal.sweep.progress import SweepProgress, decoding


def test_decoding_is_counted_on_a_terminal_alone() -> None:
    """A line with the count where somebody looks; nothing where nothing is missing, or into a file."""
    shown = {}
    for name, terminal, counts in (("file", False, (5, 7)), ("idle", True, ()), ("terminal", True, (5, 7))):
        stream = io.StringIO()
        with decoding(Console(file=stream, force_terminal=terminal, width=80)) as on_decoded:
            for n in counts:
                on_decoded(n)
        shown[name] = stream.getvalue()
    assert "decoding images" not in shown["file"] + shown["idle"]
    assert "decoding images" in shown["terminal"]
    assert "12" in shown["terminal"]


def test_a_training_shows_where_it_is() -> None:
    """On a terminal: which network, epoch, loss, images a second and the time left."""
    stream = io.StringIO()
    recipes = (Recipe(norm_batch=4), Recipe(norm_batch=8))
    todo = TrainingPass(Training("set", "top1", "0", "1", "net", "2", recipes[0], 800))
    console = Console(file=stream, force_terminal=True, width=120, color_system=None)
    with SweepProgress(console, 1600, 4, (), recipes) as progress:
        progress.images(todo, 200, "epoch 1/2 loss 0.750")
        progress.images(todo, 200, "epoch 2/2 loss 0.500")
        progress.live.refresh()
    shown = stream.getvalue()
    assert "net, norm batch 4: epoch 2/2 loss 0.500" in shown
    assert "25%" in shown
    assert "images/s" in shown
    assert re.search(r"\d:\d\d|-:--", shown)


def test_a_note_is_a_line_of_its_own() -> None:
    """Into a file as well; what stands in it is no markup."""
    stream = io.StringIO()
    with SweepProgress(Console(file=stream), 1, 1) as progress:
        progress.note("folder [bold]: damaged")
    assert stream.getvalue() == "note: folder [bold]: damaged\n"


@pytest.mark.parametrize(("every_s", "n_lines"), [(0.0, 3), (3600.0, 1)])
def test_long_judging_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, every_s: float, n_lines: int
) -> None:
    """Into a file: a line when the last is long ago, and one for each that failed."""
    monkeypatch.setattr("bnrecal.sweep.progress.JUDGED_EVERY_S", every_s)
    stream = io.StringIO()
    rows = [
        {"arch": f"a{k}", "kind": JUDGE, "judge": "own:depth", "status": "done", "score": 0.25}
        for k in range(3)
    ]
    rows[1] |= {"status": "failed", "error": "no such layer"}
    with SweepProgress(Console(file=stream), 0, 3) as progress:
        for row in rows:
            progress.cell(row, 64)
    lines = stream.getvalue().splitlines()
    assert len(lines) == n_lines
    assert "[2/3] a1 before own:depth: failed: no such layer" in lines
    assert ("[3/3] a2 before own:depth: 0.25" in lines) == (every_s == 0)


def test_judging_is_shown_on_a_terminal() -> None:
    """In the line below the table: how many are done, and who was the last."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120, color_system=None)
    with SweepProgress(console, 0, 8) as progress:
        progress.cell(
            {"arch": "a0", "kind": JUDGE, "judge": "own:depth", "status": "done", "score": 0.25}, 64
        )
        progress.live.refresh()
    assert "[1/8] a0 before own:depth" in stream.getvalue()
