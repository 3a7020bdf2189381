"""Numbers and lists as sentences say them."""

from collections.abc import Sequence


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """ "1 cell", "1,024 cells"."""
    return f"{n:,} {noun if n == 1 else plural or f'{noun}s'}"


def listed(names: Sequence[str], most: int = 3) -> str:
    """ "a", "a and b", "a, b, c and 2 more"."""
    shown, more = list(names[:most]), len(names) - most
    if more > 0:
        return f"{', '.join(shown)} and {more:,} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def spans(numbers: Sequence[int]) -> str:
    """ "0", "0 to 4", "0, 2, 5": ascending numbers."""
    if len(numbers) > 2 and len(numbers) == numbers[-1] - numbers[0] + 1:
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))
