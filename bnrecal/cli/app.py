"""The console script: the commands, and what becomes of an error."""

import os
import signal
import sys
from typing import NoReturn

import click

from bnrecal.cli.advise import advise
from bnrecal.cli.compare import compare
from bnrecal.cli.messages import complain
from bnrecal.cli.report import report
from bnrecal.cli.sweep import sweep
from bnrecal.cli.train import train
from bnrecal.errors import BnrecalError


def main() -> NoReturn:
    """The console script: one line for every mistake the user can mend, and the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        code = cli.main(standalone_mode=False, auto_envvar_prefix=None)
    except BnrecalError as error:
        code = complain(str(error), 2)
    except click.ClickException as error:
        code = complain(error.format_message(), 2)
    except (KeyboardInterrupt, click.Abort):
        code = complain("interrupted; finished cells are kept, the same command does the rest", 130)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        code = 0
    except Exception as error:
        if os.environ.get("BNRECAL_TRACEBACK"):
            raise
        what = f"{type(error).__name__}: {error}"
        code = complain(f"a bug in bnrecal: {what} (BNRECAL_TRACEBACK=1 shows where)", 1)
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bnrecal")
def cli() -> None:
    """Run BatchNorm recalibration studies: how many images, at which batch size, at what cost."""


for command in (sweep, advise, report, compare, train):
    cli.add_command(command)
