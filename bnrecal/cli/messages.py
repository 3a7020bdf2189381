"""What the command line says besides its answers (to stderr), and answers that go to a file."""

from pathlib import Path

import click

from bnrecal.errors import BnrecalError


def complain(message: str, code: int) -> int:
    """Say one line and hand back the exit code."""
    click.echo(f"bnrecal: {' '.join(message.split())}", err=True)
    return code


def write_text(path: Path, text: str) -> None:
    """The answer as a file, for -o; raises BnrecalError."""
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise BnrecalError(f"--output: cannot write {path}: {error.strerror}") from None
