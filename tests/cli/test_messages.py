"""Lines of notes and answers: broken between words alone, and only where a terminal shows them."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import click
import pytest

from bnrecal.cli.doctor import _drawn
from bnrecal.doctor.finding import Diagnosis, Finding
from tests.executors.processes import PATIENCE_S

OPTION = "--allow-random-transforms"
# the option begins at every column where it may meet the end of a line
LEADS = [lead + "x" * n for lead in ("", "forty characters of words to come first ") for n in range(1, 50)]
NOTES = [f"note: {lead} {OPTION} " + "and words " * 10 + "end" for lead in LEADS]
SAYS = f"""
from bnrecal.cli.messages import note
for said in {NOTES!r}:
    note(said.removeprefix("note: "))
"""


def on_a_terminal(columns: int, **environment: str) -> list[str]:
    """The lines of SAYS on a terminal of this width that is stderr alone: stdout goes elsewhere."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    with subprocess.Popen(
        [sys.executable, "-c", SAYS], stdout=subprocess.DEVNULL, stderr=theirs, env=kept | environment
    ) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                more = os.read(ours, 65536)
            except OSError:  # how Linux says that nobody holds the other end
                break
            if not more:
                break
            said += more
        os.close(ours)
    assert process.returncode == 0
    return said.decode().replace("\r\n", "\n").splitlines()


@pytest.mark.parametrize(("columns", "environment"), [(100, {}), (60, {}), (100, {"COLUMNS": "60"})])
def test_notes_wrap_at_the_width_of_the_terminal(columns: int, environment: dict[str, str]) -> None:
    """No line is wider, one more word would be; the option stays whole, and no word is lost."""
    width = int(environment.get("COLUMNS", columns))
    lines = on_a_terminal(columns, **environment)
    assert max(map(len, lines)) in range(width - 8, width + 1)  # the words that could follow are shorter
    assert sum(OPTION in line for line in lines) == len(NOTES)
    assert " ".join(" ".join(lines).split()) == " ".join(NOTES)


def test_notes_are_one_line_where_no_terminal_is() -> None:
    """However long, and whatever COLUMNS says: a program reads line by line."""
    ran = subprocess.run(
        [sys.executable, "-c", SAYS],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "60"},
        timeout=PATIENCE_S,
        check=True,
    )
    assert ran.stderr.splitlines() == NOTES
    assert ran.stdout == ""


def test_the_doctor_breaks_no_option_at_its_hyphens() -> None:
    """In evidence and in remedy, wherever the line ends."""
    for n in range(1, 50):
        text = "x" * n + f" {OPTION} and more words than a line of the doctor holds, whatever it says"
        shown = click.unstyle(_drawn(Diagnosis((Finding("eps", "wrong", text, text),), 64, 16)))
        assert shown.count(OPTION) == 2
        assert max(map(len, shown.splitlines())) <= 80
