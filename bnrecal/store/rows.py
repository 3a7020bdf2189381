"""A result row: its columns and what they hold, checked on reading, and rows of older schemas made new.

Columns are in the order that tables and files show them. Of a row without a kind: `update` is null for
estimator "exact", which has no pass in which images come after one another. Estimator "stored" reads no
images: batch_size, order_digest and seed are null, its counts 0. recal_s is the update pass alone up to
this sample count, images decoded, device synchronised; update_s the extra forwards and scoring for
`update`; eval_s evaluation and scoring; total_s what this cell alone would have cost. `inputs` opens the
cell's images and network again. `evaluation_batch` is the number of images in one evaluation forward,
smaller after memory ran out.

Of a training: `recipe` holds the fields that are not at their defaults; `n_samples` counts the images read
over all epochs; `loss` is the mean of the last epoch. train_s is what all epochs took, those before an
interruption included, total_s what this process spent. `weights_sha256` is of OUT/trained/KEY's weights.

Of the pass from its start to this row: cpu_s and wall_s are seconds of processor time of its process and of
the clock, cpus_left the processors that other processes left over on average (over a second at least);
`load` is the load average over one minute at its end.

`preparation` and `left_alone`, of "stored" alone: that images scaled otherwise fit the network's statistics
far better and do not lower the metric; how many of its BatchNorms re-estimation leaves alone for their mode,
and the first of them.

A minor change adds fields (readers keep what they do not know, and older rows lack it). A change that old
rows do not meet raises SCHEMA_VERSION and adds a function to MIGRATIONS, run when they are read.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import SchemaValidator, core_schema, from_json
from typing_extensions import TypedDict

from bnrecal.errors import BnrecalError
from bnrecal.study.axes import AXES, AXIS, LATER, Count, Number
from bnrecal.study.cells import JUDGE, TRAIN

SCHEMA_VERSION = 1
SKIPPED = "skipped"  # kind and status of the row of a cell that was left out

Row = dict[str, Any]

# What a row of schema n misses to be one of schema n + 1. None was needed so far.
MIGRATIONS: dict[int, Callable[[Row], Row]] = {}

# A key may become the name of a file: no separators, no leading dot.
Key = Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$")]
Seconds = Annotated[float, Field(ge=0, le=1e12)]
Figure = Annotated[float, Field(ge=-1e12, le=1e12)]
Failure = Literal["error", "not trained", "out of memory", "timed out", "not a number", "worker lost"]


class FewLeftAlone(TypedDict):
    n: Number
    total: Number
    names: list[str]


class Preparation(TypedDict):
    """Means and standard deviations of pixels / 255, per channel or one for all: that which fits, and the
    images' own; distances as in recalibration/input_fit.py; the metric now and with that which fits.
    """

    name: str
    mean: list[Figure]
    std: list[Figure]
    distance: Figure
    given_mean: list[Figure]
    given_std: list[Figure]
    given_distance: Figure
    now: Figure
    then: Figure


# What stands in every row, before and after what its kind has for itself.
_FIRST: dict[str, Any] = {
    "schema_version": Literal[1],  # SCHEMA_VERSION
    "key": Key,
    "status": Literal["done", "failed"],
}
_LAST: dict[str, Any] = {
    "device": str | None,
    "started_at": str | None,
    "error": str | None,
    "environment": dict[str, Any],
}
# Columns added since: older rows lack them.
_SINCE: dict[str, Any] = {
    "failure": Failure | None,
    "inputs": dict[str, Any] | None,
    "study": str | None,
    "cpu_s": Seconds | None,
    "wall_s": Seconds | None,
    "cpus_left": Annotated[float, Field(ge=0, le=1e6)] | None,
    "load": Annotated[float, Field(ge=0, le=1e9)] | None,
}
# Columns that stand beside an axis.
_FOLLOWING: dict[str, dict[str, Any]] = {
    "arch": {"weights_digest": str | None},
    "n_samples": {"n_updates": Number},
}
_MEASURED_AT: dict[str, Any] = {
    name: holds
    for axis in AXES
    if axis.name not in LATER
    for name, holds in {axis.name: axis.holds, **_FOLLOWING.get(axis.name, {})}.items()
}
_EVALUATED: dict[str, Any] = {
    **_FIRST,
    "task": str,
    "data_digest": str | None,
    "order_digest": str | None,
    **_MEASURED_AT,
    "metric": str,
    "update": Figure | None,
    "eval": Figure | None,
    "recal_s": Seconds | None,
    "update_s": Seconds | None,
    "eval_s": Seconds | None,
    "total_s": Seconds | None,
    **_LAST,
}
_EVALUATED_SINCE: dict[str, Any] = {
    "failure": _SINCE["failure"],
    "evaluation_batch": Count | None,
    **_SINCE,
    **{axis.name: axis.holds for axis in AXES if axis.name in LATER},
    "trained": Key | None,  # the training that made the weights
    "recipe": dict[str, Any] | None,  # its fields that are not at their defaults
    "preparation": Preparation | None,
    "left_alone": FewLeftAlone | None,
}
_TRAINED: dict[str, Any] = {
    **{name: _FIRST[name] for name in ("schema_version", "key")},
    "kind": Literal["train"],
    "status": _FIRST["status"],
    "task": str,
    "metric": str,
    "data_digest": str | None,
    "order_digest": str | None,
    "arch": str | None,  # none: a whole supernet
    "network_digest": str | None,
    "recipe": dict[str, Any],
    "n_samples": AXIS["n_samples"].holds,
    "loss": Figure | None,
    "train_s": Seconds | None,
    "total_s": Seconds | None,
    "weights_sha256": str | None,
    **_LAST,
}
# Of one architecture before a judge; `order_digest` and `code_digest` of a judge of the user's own.
_JUDGED: dict[str, Any] = {
    **{name: _FIRST[name] for name in ("schema_version", "key")},
    "kind": Literal["judge"],
    "status": _FIRST["status"],
    "task": str,
    "metric": str,
    "data_digest": str | None,
    "judge": str,
    "arch": str,
    "weights_digest": str | None,
    "n_samples": AXIS["n_samples"].holds,
    "score": Figure | None,
    "total_s": Seconds | None,
    **_LAST,
}
_JUDGED_SINCE: dict[str, Any] = {
    **_SINCE,
    "seed": AXIS["seed"].holds,
    "order_digest": str | None,
    "code_digest": str | None,
    "trained": Key | None,
    "recipe": dict[str, Any] | None,
}
# Of a cell that was left out (`bnrecal sweep --stop-when-sure`): which, and why. It is no result: another
# sweep that wants the cell does it.
_SKIPPED: dict[str, Any] = {
    **{name: _FIRST[name] for name in ("schema_version", "key")},
    "kind": Literal["skipped"],
    "status": Literal["skipped"],
    **{name: _EVALUATED[name] for name in ("task", "metric", "data_digest", "order_digest")},
    **_MEASURED_AT,
    "reason": str,
    "started_at": str | None,
}
COLUMNS = tuple(_EVALUATED)


class _Kind:
    """What rows of one kind are checked by: `columns` that each has, others that it may have."""

    def __init__(
        self, columns: Mapping[str, Any], since: Mapping[str, Any], needed_when_done: tuple[str, ...]
    ) -> None:
        self.columns = tuple(columns)
        self.needed_when_done = needed_when_done
        fields = {
            name: core_schema.typed_dict_field(TypeAdapter(holds).core_schema, required=name in columns)
            for name, holds in {**columns, **since}.items()
        }
        rules = core_schema.CoreConfig(strict=True, allow_inf_nan=False)
        self.checker = SchemaValidator(
            core_schema.typed_dict_schema(fields, extra_behavior="allow", config=rules)
        )


_RECALIBRATED = _Kind(_EVALUATED, _EVALUATED_SINCE, ("eval", "total_s"))
KINDS = {
    None: _RECALIBRATED,
    TRAIN: _Kind(_TRAINED, _SINCE, ("weights_sha256", "train_s")),
    JUDGE: _Kind(_JUDGED, _JUDGED_SINCE, ("score",)),
    SKIPPED: _Kind(_SKIPPED, {name: _SINCE[name] for name in ("inputs", "study")}, ()),
}


def is_evaluated(row: Row) -> bool:
    """Whether the row is of a network that was evaluated, as those without a kind are."""
    return row.get("kind") is None


def parse_row(line: bytes, place: str) -> Row:
    """The row in this line; raises BnrecalError that names `place` and what is wrong with it."""
    row: Row
    try:
        # rows that name a kind are few enough to be looked at twice
        row = (
            _read_slowly(line, place)
            if b'"kind"' in line
            else dict(_RECALIBRATED.checker.validate_json(line))
        )
    except ValidationError:
        row = _read_slowly(line, place)
    if row["status"] == "done":
        for name in KINDS[row.get("kind")].needed_when_done:
            if row[name] is None:
                raise _no_row(place, f"is done and has no {name}")
    if not is_evaluated(row):
        return row
    if row["estimator"] != "stored" and not (row["batch_size"] and row["n_samples"] and row["n_updates"]):
        raise _no_row(place, f"has no batch_size, n_samples or n_updates for {_short(row['estimator'])}")
    return row


def _read_slowly(line: bytes, place: str) -> Row:
    """A row of an older schema, or the error that says what is wrong."""
    try:
        row = from_json(line, allow_inf_nan=False)
    except ValueError:
        raise BnrecalError(f"{place}: damaged, not a JSON object; mend or remove this line") from None
    version = row.get("schema_version") if isinstance(row, dict) else None
    while isinstance(version, int) and version in MIGRATIONS:
        row = {**MIGRATIONS[version](row), "schema_version": version + 1}
        version += 1
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise BnrecalError(
            f"{place}: row of schema {_short(version)}, this bnrecal reads schema {SCHEMA_VERSION}; "
            "use another --out folder or the bnrecal that wrote it"
        )
    kind = row.get("kind")
    if kind is not None and not (isinstance(kind, str) and kind in KINDS):
        known = ", ".join(filter(None, KINDS))
        raise BnrecalError(
            f"{place}: row of kind {_short(kind)}, this bnrecal knows {known}; use a newer one"
        )
    missing = [name for name in KINDS[kind].columns if name not in row]
    if missing:
        raise _no_row(place, f"lacks {', '.join(missing)}")
    try:
        checked: Row = KINDS[kind].checker.validate_python(row)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise _no_row(place, f"has {name} {_short(first['input'])}: {first['msg']}") from None
    return checked


def _no_row(place: str, what: str) -> BnrecalError:
    return BnrecalError(
        f"{place}: not a result row of schema {SCHEMA_VERSION}: {what}; mend or remove this line"
    )


def _short(value: object) -> str:
    """At most 40 characters of a value, without control characters."""
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def line_of(row: Row) -> bytes:
    """The line that holds this row; floats come back to the last bit."""
    columns = KINDS[row.get("kind")].columns
    return json.dumps({name: row.get(name) for name in columns} | row, allow_nan=False).encode() + b"\n"


def finite_or_none(value: float | None) -> float | None:
    """JSON has no NaN: a figure that is none is null."""
    return value if value is not None and math.isfinite(value) else None
