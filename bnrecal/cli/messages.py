"""What the command line says besides its answers (to stderr), and answers that go to a file."""

from pathlib import Path

import click

from bnrecal.errors import BnrecalError


def complain(message: str, code: int) -> int:
    """Say one line and hand back the exit code."""
    click.echo(f"bnrecal: {' '.join(message.split())}", err=True)
    return code


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
