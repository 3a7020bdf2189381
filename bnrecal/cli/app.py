"""The console script: the commands, and what becomes of an error."""

import os
import sys
from typing import NoReturn

import click

from bnrecal.cli.advise import advise
from bnrecal.cli.average import average
from bnrecal.cli.compare import compare
from bnrecal.cli.doctor import doctor
from bnrecal.cli.example import example
from bnrecal.cli.messages import complain
from bnrecal.cli.rank import rank
from bnrecal.cli.recalibrate import recalibrate
from bnrecal.cli.report import report
from bnrecal.cli.search import search
from bnrecal.cli.show import show
from bnrecal.cli.suggestions import message_of
from bnrecal.cli.sweep import sweep
from bnrecal.cli.train import train
from bnrecal.cli.verify import verify
from bnrecal.errors import BnrecalError
from bnrecal.host.interrupts import Stopped, heeded

_KEPT = "; finished cells are kept, the same command does the rest"
_LEAVES = dict.fromkeys(
    ("sweep", "advise", "train", "rank", "search"), _KEPT
)  # others keep nothing that a second run finds


def _command() -> str:
    return next((word for word in sys.argv[1:] if not word.startswith("-")), "")


def main() -> NoReturn:
    """The console script: one line for every mistake the user can mend, and the exit code."""
    with heeded(_LEAVES.get(_command(), "")):
        code = _run()
    sys.exit(code)


def _run() -> int:
    try:
        code: int = cli.main(standalone_mode=False, auto_envvar_prefix=None)
        return code
    except Stopped as stopped:
        return complain(f"interrupted{_LEAVES.get(_command(), '')}", stopped.code)
    except BnrecalError as error:
        return complain(str(error), 2)
    except click.exceptions.NoArgsIsHelpError as error:  # a page, not a line
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.ClickException as error:
        return complain(message_of(error, sys.argv[1:]), 2)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        return 0
    except Exception as error:
        if os.environ.get("BNRECAL_TRACEBACK"):
            raise
        what = f"{type(error).__name__}: {error}"
        return complain(f"a bug in bnrecal: {what} (BNRECAL_TRACEBACK=1 shows where)", 1)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bnrecal")
def cli() -> None:
    """Run BatchNorm recalibration studies: how many images, at which batch size, at what cost."""


COMMANDS = (
    *(sweep, report, advise, recalibrate, average, doctor, compare),
    *(show, verify, train, rank, search, example),
)
for command in COMMANDS:
    cli.add_command(command)
