"""True values of architectures, from a file: what each reached when it was trained alone."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bnrecal.errors import BnrecalError
from bnrecal.search.space import Choices, Space

_V = TypeVar("_V")
MEAN, RUNS = "mean_acc", "test_acc"  # NAS-Bench-Macro's names
# what the column of true values of a CSV file is called
VALUES = {
    "value",
    "values",
    "mean",
    MEAN,
    "acc",
    "accuracy",
    "top1",
    "top-1",
    "map",
    "metric",
    "score",
    "truth",
}


@dataclass(frozen=True)
class Truth:
    """`values[arch]`, more is better; `runs[arch]` of single trainings, as many for each, or empty."""

    values: Mapping[str, float]
    runs: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def read_truth(path: Path, place: str = "--truth") -> Truth:
    """From a JSON or CSV file, by its ending.

    JSON: {"arch": value} or {"arch": {"mean_acc": value, "test_acc": [a value a run], ...}}, the layout of
    NAS-Bench-Macro (Su et al., CVPR 2021). CSV: a header line, then arch,value or arch,value,run,run,...
    Raises BnrecalError, naming the architecture, for anything else.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise BnrecalError(f"{place}: cannot read {path}: {reason}") from None
    kind = path.suffix.lower()
    if kind not in (".json", ".csv"):
        raise BnrecalError(f"{place}: {path}: unknown ending {kind!r}; valid: .json, .csv")
    where = f"{place}: {path}"
    truth = _of_json(text, where) if kind == ".json" else _of_csv(text, where)
    if not truth.values:
        raise BnrecalError(f"{where}: holds no architecture")
    n_runs = {len(truth.runs.get(arch, ())) for arch in truth.values}
    if len(n_runs) > 1:
        raise BnrecalError(f"{where}: gives between {min(n_runs)} and {max(n_runs)} runs an architecture")
    return truth


def in_spelling(truth: Truth, archs: Sequence[str], space: Space | None, place: str = "--truth") -> Truth:
    """What it says of these architectures, by the names they have here.

    A second name of an architecture ("arch1") is the one the space writes. Raises BnrecalError where two
    names of one architecture have two values.
    """
    if space is None:
        return Truth(_only(truth.values, archs), _only(truth.runs, archs))
    known: dict[Choices, str] = {}
    for name in truth.values:
        try:
            choices = space.decode(name)
        except BnrecalError:
            continue  # of another space
        other = known.setdefault(choices, name)
        if truth.values[other] != truth.values[name]:
            raise BnrecalError(f"{place}: {other} and {name} are one architecture and have two values")
    names = {arch: known[choices] for arch in archs if (choices := space.decode(arch)) in known}
    return Truth(
        {arch: truth.values[name] for arch, name in names.items()},
        {arch: truth.runs[name] for arch, name in names.items() if name in truth.runs},
    )


def _only(values: Mapping[str, _V], archs: Sequence[str]) -> dict[str, _V]:
    return {arch: values[arch] for arch in archs if arch in values}


def _of_json(text: str, where: str) -> Truth:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in entries if names.count(name) > 1)
            raise BnrecalError(f"{where}: {twice} stands there twice")
        return entries

    try:
        found = json.loads(text, object_pairs_hook=once)
    except ValueError as error:
        raise BnrecalError(f"{where} is not JSON: {error}") from None
    except RecursionError:
        raise BnrecalError(f"{where} is not JSON of this kind: nested too deeply") from None
    if not isinstance(found, dict):
        raise BnrecalError(f"{where}: holds a {type(found).__name__}; needs an object of architectures")
    values: dict[str, float] = {}
    runs: dict[str, tuple[float, ...]] = {}
    for arch, entry in found.items():
        if not isinstance(entry, dict):
            values[arch] = _number(entry, where, arch)
            continue
        if MEAN not in entry:
            raise BnrecalError(f"{where}: {arch}: has no {MEAN}; it has {', '.join(entry) or 'nothing'}")
        values[arch] = _number(entry[MEAN], where, arch)
        single = entry.get(RUNS, [])
        if not isinstance(single, list):
            raise BnrecalError(f"{where}: {arch}: {RUNS} is a {type(single).__name__}; needs a list")
        if single:
            runs[arch] = tuple(_number(value, where, arch) for value in single)
    return Truth(values, runs)


def _of_csv(text: str, where: str) -> Truth:
    values: dict[str, float] = {}
    runs: dict[str, tuple[float, ...]] = {}
    try:
        reader = csv.reader(text.splitlines())
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except csv.Error as error:
        raise BnrecalError(f"{where} is not CSV: {error}") from None
    header = rows[0][1] if rows else []
    if len(header) > 1 and _is_number(header[1]):
        raise BnrecalError(
            f"{where}: line 1: {header[0]!r} has a value, where column names are to be; put a line such as "
            "arch,value before it"
        )
    misplaced = [name for name in header[2:] if name.lower() in VALUES]
    if misplaced and header[1].lower() not in VALUES:
        raise BnrecalError(
            f"{where}: the second column is {header[1]!r}, and {misplaced[0]!r} comes after it; the second "
            "is read as the value, those after it as runs"
        )
    for at, row in rows[1:]:
        arch, *numbers = row
        if not numbers:
            raise BnrecalError(f"{where}: line {at}: {arch!r} has no value; allowed: arch,value[,run,...]")
        if len(row) > len(header):
            raise BnrecalError(
                f"{where}: line {at}: {arch!r} has {len(row)} columns, of which {len(header)} have a name; a "
                "comma in a number is read as the next column"
            )
        if arch in values:
            raise BnrecalError(f"{where}: line {at}: {arch} stands there twice")
        values[arch], *single = (_number(number, where, arch) for number in numbers)
        if single:
            runs[arch] = tuple(single)
    return Truth(values, runs)


def _number(value: Any, where: str, arch: str) -> float:
    if not _is_number(value):
        raise BnrecalError(f"{where}: {arch}: {str(value)[:40]!r} is no finite number")
    return float(value)


def _is_number(value: Any) -> bool:
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    # Python reads 1_0 as 10; nobody writes that in a table
    return not isinstance(value, bool) and math.isfinite(found) and "_" not in str(value)
