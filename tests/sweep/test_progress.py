"""What a run shows while it works."""

import io
import re

from rich.console import Console

from bnrecal.study.cells import Training, TrainingPass
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
