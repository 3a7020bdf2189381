"""The ranges of an optimiser's numbers, checked in one line each."""

import math
from collections.abc import Callable, Mapping

from bnrecal.errors import BnrecalError

RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "lr": (lambda value: 0 <= value < math.inf, "at least 0"),
    "momentum": (lambda value: 0 <= value < 1, "at least 0 and below 1"),
    "weight_decay": (lambda value: 0 <= value < math.inf, "at least 0"),
    "trust_coefficient": (lambda value: 0 < value < math.inf, "above 0"),
    "eps": (lambda value: 0 <= value < math.inf, "at least 0"),
}


def check_numbers(values: Mapping[str, object], place: str) -> None:
    """Raise BnrecalError for a value that is no number or out of its range. Names not in RANGES pass."""
    for name, value in values.items():
        if name not in RANGES:
            continue
        allows, words = RANGES[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not allows(value):
            raise BnrecalError(f"{place}: {name}={value!r}; it must be a number {words}")
