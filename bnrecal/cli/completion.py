"""What the shell offers behind an option when the Tab key is pressed.

Names that are known without opening anything: a Tab answers at once, and torch is not imported.
"""

from collections.abc import Callable, Sequence

import click
from click.shell_completion import CompletionItem

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _archs(context: click.Context) -> Sequence[str]:
    """Those of the supernet; another model's are known when it is opened."""
    from bnrecal.study.axes import AXIS

    return (*AXIS["arch"].usual, "random:") if context.params.get("model") in (None, "supernet") else ()


def _tasks(_: click.Context) -> Sequence[str]:
    from bnrecal.tasks import NAMES

    return NAMES


def _estimators(_: click.Context) -> Sequence[str]:
    from bnrecal.study.axes import ESTIMATORS

    return ESTIMATORS


def _fields(_: click.Context) -> Sequence[str]:
    from bnrecal.study.selection import NAMES

    return [f"{name}=" for name in NAMES]


def _fixed(*words: str) -> Callable[[click.Context], Sequence[str]]:
    return lambda _: words


VALUES: dict[str, Callable[[click.Context], Sequence[str]]] = {
    "arch": _archs,
    "channels": _fixed("1", "3"),
    "device": _fixed("auto", "cpu", "cuda", "cuda:"),
    "estimator": _estimators,
    "exclude": _fields,
    "executor": _fixed("inline", "local", "ray"),
    "fit": _fixed("crop", "stretch"),
    "frozen": _fixed("auto", "by_mode", "none"),
    "interpolation": _fixed("bilinear", "bicubic", "nearest", "lanczos"),
    "model": _fixed("supernet", "torchvision:", "timm:"),
    "only": _fields,
    "preprocess": _fixed("task", "model"),
    "task": _tasks,
}
FILES = ("calibration", "data", "evaluation", "images", "weights")  # texts that name files or folders
LISTS = ("arch", "estimator")  # comma lists: the last item is completed, each name offered once


def of(name: str) -> Complete | None:
    """The completion of the option of this name, None for one whose values are numbers or free."""
    if name in FILES:
        return lambda _, __, so_far: [CompletionItem(so_far, type="file")]  # by the shell itself
    if name not in VALUES:
        return None

    def complete(context: click.Context, _: click.Parameter, so_far: str) -> list[CompletionItem]:
        before, comma, last = so_far.rpartition(",") if name in LISTS else ("", "", so_far)
        given = before.split(",")
        words = [word for word in VALUES[name](context) if word.startswith(last) and word not in given]
        return [CompletionItem(before + comma + word) for word in words]

    return complete
