"""Rows of trained networks as tables of whatever varies, as data that every format renders.

Each row has a place along axes: architecture, rule of the statistics, batch size, images, and every field
of the recipe that varies. Two axes become the rows and columns of a table, the others its blocks. Seeds are
no axes: trainings that differ by their seed alone, and orders of the images, are averaged, and say how far
they scatter.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean
from typing import Any

from bnrecal.errors import unknown_choice
from bnrecal.store.provenance import recipe_of
from bnrecal.store.store import Row
from bnrecal.study.axes import AXIS, EXPERIMENT, STORED, metric_name, rule
from bnrecal.study.recipe import NORMS, Recipe, make_recipe
from bnrecal.study.recipes import phrase, varied_fields

AS_IT_STANDS = "as it stands"
NORM = "norm"
HOW = "statistics"  # the rule: estimator and momentum
SIZE, IMAGES, ARCH = (AXIS[name].words for name in ("batch_size", "n_samples", "arch"))
BATCH = "training batch"  # of the recipe, since the statistics have a batch size of their own
OF_STATISTICS = (HOW, SIZE, IMAGES)  # what a network as it stands has no place along
Place = tuple[Any, ...]
NOWHERE = "no place"  # of a network along an axis that means nothing to it: the norm batch of a GroupNorm


@dataclass(frozen=True)
class Point:
    """One evaluated cell: where it stands, and which training and order of images it belongs to."""

    row: Row
    at: Mapping[str, Any]
    training_seed: int

    @property
    def is_stored(self) -> bool:
        return bool(self.row["estimator"] == STORED)


@dataclass(frozen=True)
class Group:
    """Cells alike but for seeds."""

    points: tuple[Point, ...]

    @cached_property
    def by_training(self) -> dict[int, float]:
        """Eval of each training, the mean over orders of the images."""
        found: dict[int, list[float]] = defaultdict(list)
        for point in self.points:
            found[point.training_seed].append(point.row["eval"])
        return {seed: mean(values) for seed, values in sorted(found.items())}

    @property
    def eval(self) -> float:
        return mean(self.by_training.values())


@dataclass(frozen=True)
class Block:
    """One table: `groups[row value, column value]`; `stored` is the network as it stands, by the other axis.

    `along` says which way `stored` lies: it is a first row where rows are of statistics, a first column where
    columns are.
    """

    title: str
    groups: Mapping[tuple[Any, Any], Group]
    stored: Mapping[Any, Group]


@dataclass(frozen=True)
class Variants:
    """One task, data set and metric, and everything that was trained for it.

    `axes` are those that vary, each with its values in order; `rows` and `columns` are two of them ("" where
    fewer vary).
    """

    task: str
    metric: str
    axes: Mapping[str, tuple[Any, ...]]
    rows: str
    columns: str
    points: tuple[Point, ...]
    n_failed: int

    @property
    def title(self) -> str:
        failed = f", {self.n_failed} failed" if self.n_failed else ""
        n = len({(p.row["trained"]) for p in self.points})
        networks = f"{n} trained network{'s' * (n != 1)}"
        return f"{self.task}: {self.metric} of {networks} ({len(self.points)} cells{failed})"

    @property
    def training_axes(self) -> tuple[str, ...]:
        """The axes along which trained networks differ."""
        return tuple(name for name in self.axes if name not in OF_STATISTICS)

    @property
    def training_seeds(self) -> tuple[int, ...]:
        return tuple(sorted({point.training_seed for point in self.points}))

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Tables in the order of the axes that are neither rows nor columns."""
        others = [name for name in self.axes if name not in (self.rows, self.columns)]
        stored_by = [name for name in others if name not in OF_STATISTICS]
        together: dict[Place, list[Point]] = defaultdict(list)
        beside: dict[Place, list[Point]] = defaultdict(list)
        for point in self.points:
            if point.is_stored:
                beside[place_of(point, stored_by)].append(point)
            else:
                together[place_of(point, others)].append(point)
        blocks, at, shown = [], [], set()
        for place in sorted(together, key=lambda place: self.ranks(others, place)):
            mine = tuple(v for name, v in zip(others, place, strict=True) if name in stored_by)
            blocks.append(self._block(named(others, place), together[place], beside.get(mine, [])))
            at.append(dict(zip(stored_by, mine, strict=True)))
            shown.add(mine)
        if not blocks or not {self.rows, self.columns} & set(OF_STATISTICS):  # no room for it in the tables
            blocks = [
                self._block(self._stored_title(stored_by, p), found, []) for p, found in beside.items()
            ] + [self._beside_others(block, place) for block, place in zip(blocks, at, strict=True)]
        else:  # networks without statistics have no cells but these
            alone = {place: found for place, found in beside.items() if place not in shown}
            blocks += [self._block(self._stored_title(stored_by, p), [], found) for p, found in alone.items()]
        return tuple(blocks)

    def _stored_title(self, names: Sequence[str], place: Place) -> str:
        return ", ".join(filter(None, [AS_IT_STANDS, named(names, place)]))

    def _beside_others(self, block: Block, at: Mapping[str, Any]) -> Block:
        """With the networks of this block that have nothing to re-estimate, so that all kinds stand in one
        table; `at` is its place.
        """
        estimated = {place_of(p, self.training_axes) for p in self.points if not p.is_stored}
        others = [
            point
            for point in self.points
            if place_of(point, self.training_axes) not in estimated
            and all(point.at.get(name, NOWHERE) in (value, NOWHERE) for name, value in at.items())
        ]
        title = block.title or self._re_estimated()
        if others:
            title += "; networks without statistics as they stand"
        return Block(title, {**self._block("", others, []).groups, **block.groups}, {})

    def _re_estimated(self) -> str:
        """What all re-estimated cells have in common, where they have one setting."""
        row = next(point.row for point in self.points if not point.is_stored)
        how = rule(row["estimator"], row["momentum"])
        return f"re-estimated ({how}, {said(SIZE, row['batch_size'])}, {said(IMAGES, row['n_samples'])})"

    def ranks(self, names: Sequence[str], place: Place) -> tuple[int, ...]:
        """To sort places by: each axis in its order, those without a place along it last."""
        return tuple(
            len(self.axes[name]) if value == NOWHERE else self.axes[name].index(value)
            for name, value in zip(names, place, strict=True)
        )

    def _block(self, title: str, points: Iterable[Point], stored: Iterable[Point]) -> Block:
        other = self.columns if self.rows in OF_STATISTICS else self.rows
        return Block(
            title,
            grouped(points, lambda p: (p.at.get(self.rows), p.at.get(self.columns))),
            grouped(stored, lambda p: p.at.get(other)),
        )


def axis_of(field: str) -> str:
    """What a field of the recipe is called as an axis."""
    return BATCH if field == "batch_size" else field.replace("_", " ")


def grouped(points: Iterable[Point], key: Any) -> dict[Any, Group]:
    found: dict[Any, list[Point]] = defaultdict(list)
    for point in points:
        found[key(point)].append(point)
    return {at: Group(tuple(group)) for at, group in found.items()}


def said(name: str, value: Any) -> str:
    """ "1,024 images", "batch size 64", "norm batch 4", "pooled"."""
    if name in (HOW, ARCH):
        return str(value)
    if name == IMAGES:
        return f"{value:,} images"
    if name == SIZE:
        return f"batch size {value:,}"
    if name == BATCH:
        return f"{BATCH} {value:,}"
    return phrase(name.replace(" ", "_"), value)


def place_of(point: Point, names: Sequence[str]) -> Place:
    """Where the point stands along these axes."""
    return tuple(point.at.get(name, NOWHERE) for name in names)


def named(names: Sequence[str], place: Place) -> str:
    """A place in words: "cbn, norm batch 4"; nothing of an axis along which it has none."""
    pairs = zip(names, place, strict=True)
    return ", ".join(said(name, value) for name, value in pairs if value != NOWHERE)


def variants_of(rows: Iterable[Row], wanted_rows: str | None, wanted_columns: str | None) -> list[Variants]:
    """One for each task, data set and metric that has trained networks, in the order of their rows.

    `wanted_rows` and `wanted_columns` name axes; by default the two along which most varies. Raises
    BnrecalError for an axis that does not vary.
    """
    together: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row.get("trained") is not None:
            together[tuple(row[name] for name in EXPERIMENT)].append(row)
    return [_variants(group, wanted_rows, wanted_columns) for group in together.values()]


def _variants(rows: Sequence[Row], wanted_rows: str | None, wanted_columns: str | None) -> Variants:
    recipes = {row["trained"]: recipe_of(row) or make_recipe({}) for row in rows}
    fields = _leading(list(recipes.values()))
    done = [row for row in rows if row["status"] == "done"]
    points = tuple(_point(row, recipes[row["trained"]], fields) for row in done)
    axes = _axes(points, fields)
    in_rows, in_columns = _chosen(axes, wanted_rows, wanted_columns)
    metric = metric_name(rows[0]["metric"])
    return Variants(rows[0]["task"], metric, axes, in_rows, in_columns, points, len(rows) - len(done))


def _leading(recipes: Sequence[Recipe]) -> list[str]:
    """The fields that vary, but for the seed and those that follow from one before: lr from the optimiser."""
    leading: list[str] = []
    for name in varied_fields(recipes):
        pairs = {
            before: {(repr(getattr(r, before)), repr(getattr(r, name))) for r in recipes}
            for before in leading
        }
        follows = any(len(found) == len({value for value, _ in found}) for found in pairs.values())
        if name != "seed" and not follows:
            leading.append(name)
    return leading


def _point(row: Row, recipe: Recipe, fields: Sequence[str]) -> Point:
    at: dict[str, Any] = {ARCH: row["arch"]}
    heeded = [name for name in fields if name not in recipe.unheeded()]
    at |= {axis_of(name): _comparable(getattr(recipe, name)) for name in heeded}
    if row["estimator"] != STORED:
        how = rule(row["estimator"], row["momentum"])
        at |= {HOW: how, SIZE: row["batch_size"], IMAGES: row["n_samples"]}
    return Point(row, at, recipe.seed)


def _comparable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _axes(points: Sequence[Point], fields: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """The axes that vary. Numbers in their order, norms as their table has them, names as they first come."""
    found = {}
    for name in (ARCH, *map(axis_of, fields), HOW, SIZE, IMAGES):
        values = list(dict.fromkeys(point.at[name] for point in points if name in point.at))
        if name == NORM:
            values.sort(key=list(NORMS).index)
        if len(values) > 1:
            numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
            found[name] = (*sorted(numbers), *(v for v in values if v not in numbers))
    return found


def _chosen(axes: Mapping[str, Sequence[Any]], rows: str | None, columns: str | None) -> tuple[str, str]:
    """Rows and columns: what is asked for, else the two axes of most values, statistics as rows at a tie."""
    for option, name in (("--rows", rows), ("--columns", columns)):
        if name is not None and name not in axes:
            raise unknown_choice("axis", name, axes, option)
    by_size = sorted(axes, key=lambda name: (-len(axes[name]), name not in OF_STATISTICS))
    left = [name for name in by_size if name not in (rows, columns)]
    as_rows = rows or next(iter(left), "")
    left = [name for name in left if name != as_rows]
    return as_rows, columns or next(iter(left), "")
