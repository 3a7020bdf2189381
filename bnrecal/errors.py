"""The one error class for what the user can mend.

Everything a user may cause (a wrong option, a damaged file, a model that does not fit) is raised as
`BnrecalError` with one line that names the value, the place and what is allowed. The command line
catches it once. An `AssertionError` anywhere means a bug of ours.
"""

from collections.abc import Iterable


class BnrecalError(Exception):
    """A mistake the user can mend. `str(error)` is the one line to show.

    >>> import bnrecal
    >>> try:
    ...     bnrecal.Ema(momentum=2)
    ... except bnrecal.BnrecalError as error:
    ...     print(error)
    momentum=2: ema needs more than 0 and at most 1
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class NotANumberError(BnrecalError):
    """The network gave NaN or infinity: its weights or its images are at fault, or its precision."""


def in_a_line(error: BaseException) -> str:
    """ "ValueError: its first line", for what somebody else's code raised."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def unknown_choice(kind: str, value: object, valid: Iterable[str], place: str = "") -> BnrecalError:
    """The error for a name that is not in a table, listing the names that are."""
    where = f"{place}: " if place else ""
    return BnrecalError(f"{where}unknown {kind} {value!r}; valid: {', '.join(valid)}")
