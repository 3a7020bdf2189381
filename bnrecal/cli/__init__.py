"""The command line: reads options, calls the library, prints. The only room that knows click.

A command is a file of this folder; `app` gathers them. Exit codes: 0 all done; 1 a bug of ours; 2 usage
or bad input; 3 some cells failed, or the doctor found something; 4 a comparison found a difference;
130 and 143 when interrupted or terminated.
"""

from bnrecal.cli.app import main

__all__ = ["main"]
