"""What the command line says besides its answers; everything goes to stderr."""

import click


def complain(message: str, code: int) -> int:
    """Say one line and hand back the exit code."""
    click.echo(f"bnrecal: {' '.join(message.split())}", err=True)
    return code
