"""True values of architectures, from a file: what each reached when it was trained alone."""

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bnrecal.errors import BnrecalError

MEAN, RUNS = "mean_acc", "test_acc"  # NAS-Bench-Macro's names


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


def _of_json(text: str, where: str) -> Truth:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise BnrecalError(f"{where} is not JSON: {error}") from None
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
    rows = [row for row in csv.reader(text.splitlines()) if row]
    for at, row in enumerate(rows[1:], 2):
        arch, *numbers = (cell.strip() for cell in row)
        if not numbers:
            raise BnrecalError(f"{where}: line {at}: {arch!r} has no value; allowed: arch,value[,run,...]")
        if arch in values:
            raise BnrecalError(f"{where}: line {at}: {arch} stands there twice")
        values[arch], *single = (_number(number, where, arch) for number in numbers)
        if single:
            runs[arch] = tuple(single)
    return Truth(values, runs)


def _number(value: Any, where: str, arch: str) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if isinstance(value, bool) or not math.isfinite(found):
        raise BnrecalError(f"{where}: {arch}: {str(value)[:40]!r} is no finite number")
    return found
