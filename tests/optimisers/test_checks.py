"""The numbers an optimiser takes."""

import pytest

from bnrecal.errors import BnrecalError
from bnrecal.optimisers.checks import check_numbers


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("lr", -0.1, "at least 0"),
        ("lr", float("nan"), "at least 0"),
        ("lr", float("inf"), "at least 0"),
        ("lr", "0.1", "at least 0"),
        ("lr", True, "at least 0"),
        ("momentum", 1.0, "at least 0 and below 1"),
        ("momentum", -0.1, "at least 0 and below 1"),
        ("weight_decay", -1, "at least 0"),
        ("trust_coefficient", 0, "above 0"),
        ("eps", -1e-8, "at least 0"),
    ],
)
def test_numbers_out_of_range_are_refused(name: str, value: object, words: str) -> None:
    """One line: the place, the name, the value, the range."""
    with pytest.raises(BnrecalError) as refused:
        check_numbers({name: value}, "LARS: group 0")
    assert str(refused.value) == f"LARS: group 0: {name}={value!r}; it must be a number {words}"


def test_numbers_in_range_pass() -> None:
    """The ends of the ranges, integers, and names that are none of ours."""
    check_numbers({"lr": 0, "momentum": 0.0, "weight_decay": 0, "trust_coefficient": 1e-9, "eps": 0}, "here")
    check_numbers({"betas": (0.9, 0.999)}, "here")
