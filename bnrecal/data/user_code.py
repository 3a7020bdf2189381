"""The one door through which code of the user's comes in: names like "my_package.my_module:factory".

What is imported here runs with the user's rights. It is named on the command line, in the environment or
in a study file of the user's own; nothing else in a file is ever run.
"""

import contextlib
import functools
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from bnrecal.errors import BnrecalError

_P = ParamSpec("_P")
_T = TypeVar("_T")


def on_stderr(call: Callable[_P, _T]) -> Callable[_P, _T]:
    """The same with what it prints sent to stderr: stdout carries the answer alone."""

    @functools.wraps(call)
    def called(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        with contextlib.redirect_stdout(sys.stderr):
            return call(*args, **kwargs)

    return called


_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def imported(name: str, place: str) -> Any:
    """The object "module:name" stands for; modules are also looked for in the working folder.

    Raises BnrecalError, naming `place`, for a name of another form, a module that is missing or raises,
    and a module without that name.
    """
    if not _NAME.fullmatch(name):
        raise BnrecalError(f"{place}: {name!r}; allowed: module:name, such as my_package.my_module:factory")
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # last: the user's file must not hide an installed module
    try:
        found: Any = on_stderr(import_module)(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and module_name.startswith(error.name):
            raise BnrecalError(f"{place}: no module {error.name!r} here or installed ({name})") from None
        raise BnrecalError(f"{place}: {module_name} needs the module {error.name!r}") from error
    except (Exception, SystemExit) as error:  # a script that ends its process
        what = f"{type(error).__name__}: {error}"
        raise BnrecalError(f"{place}: {module_name} raised {what} when imported") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise BnrecalError(f"{place}: {module_name} has no {attribute!r}")
        found = getattr(found, part)
    return found


def code_of(name: str) -> bytes:
    """The file of the module in "module:name", once imported: edited, it is other code under that name.

    What that file imports is not seen. Nothing for a module without a file.
    """
    try:
        return Path(sys.modules[name.partition(":")[0]].__file__ or "").read_bytes()
    except (AttributeError, OSError):
        return b""
