"""What the command line says besides its answers (to stderr), and answers that go to a file."""

import os
import sys
import textwrap
from pathlib import Path
from typing import TypedDict

import click

from bnrecal.errors import BnrecalError


class _Unbroken(TypedDict):
    break_long_words: bool
    break_on_hyphens: bool


UNBROKEN = _Unbroken(break_long_words=False, break_on_hyphens=False)  # options and paths stay whole


def complain(message: str, code: int) -> int:
    """Say one line and hand back the exit code."""
    click.echo(f"bnrecal: {' '.join(message.split())}", err=True)
    return code


def say(text: str) -> None:
    """A line of progress to stderr: on a terminal broken between words at its width, elsewhere one line."""
    if sys.stderr.isatty():
        text = textwrap.fill(text, max(40, _columns()), subsequent_indent="  ", **UNBROKEN)
    click.echo(text, err=True)


def _columns() -> int:
    """Of the terminal on stderr, as stdout may go to a file; COLUMNS wins."""
    named = os.environ.get("COLUMNS", "")
    return int(named) if named.isdecimal() else os.get_terminal_size(sys.stderr.fileno()).columns or 80


def note(text: str) -> None:
    """What the user should know besides the answer."""
    say(f"note: {text}")


def drawn(renderable: object, width: int | None = None) -> str:
    """What rich makes of a table, as wide as the terminal or as `width` says; no trailing blanks."""
    from rich.console import Console

    console = Console(markup=False, highlight=False, width=width)
    with console.capture() as captured:
        console.print(renderable)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def write_text(path: Path, text: str) -> None:
    """The answer as a file, for -o; raises BnrecalError."""
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise BnrecalError(f"--output: cannot write {path}: {error.strerror}") from None
