"""What a text that is no whole number probably stands for."""

import re

# k as in 64k images: a thousand, or the next whole number of batches of up to 64
_THOUSANDS = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmM])")
_RANGE = re.compile(r"(\d+)\s*(?:-|\.\.\.?|:|to)\s*(\d+)")
_MOST = 12  # values of a range that are written out


def instead_of(text: str) -> str | None:
    """What to write: "1000 or 1024" for "1k", "8,16,32,64" for "8-64"; None for what nobody can guess."""
    found = _THOUSANDS.fullmatch(text)
    if found:
        return _thousands(float(found[1]), found[2].lower())
    found = _RANGE.fullmatch(text)
    if found:
        return _doubled(int(found[1]), int(found[2]))
    return None


def _thousands(number: float, unit: str) -> str | None:
    power = {"k": 1, "m": 2}[unit]
    said = [number * base**power for base in (1000, 1024)]
    whole = [str(int(n)) for n in said if n == int(n) and 0 < n < 2**53]
    return " or ".join(dict.fromkeys(whole)) or None


def _doubled(low: int, high: int) -> str | None:
    """From one end to the other by doubling, as batch sizes and counts go."""
    if not 0 < low < high:
        return None
    values = [low]
    while values[-1] * 2 < high:
        values.append(values[-1] * 2)
    return ",".join(map(str, [*values, high])) if len(values) < _MOST else None
