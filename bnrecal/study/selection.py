"""Which cells of a study a call is about: --only, --exclude, --retry-failed, --force, --limit."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields

from bnrecal.errors import BnrecalError, unknown_choice
from bnrecal.study.axes import OPTIONS
from bnrecal.study.cells import Cell
from bnrecal.study.recipe import Recipe

OF_RECIPE = "train."  # before the name of a recipe's field
NAMES = tuple(dict.fromkeys(("key", *(field.name for field in fields(Cell)), *OPTIONS)))


@dataclass(frozen=True)
class Condition:
    """The cells whose field `name` is one of `values`, as text; of a key the first digits are enough."""

    name: str
    values: tuple[str, ...]

    def holds(self, cell: Cell) -> bool:
        if self.name == "key":
            return cell.key.startswith(self.values)
        if self.name.startswith(OF_RECIPE):
            recipe = cell.trained.recipe if cell.trained else None
            value = getattr(recipe, self.name.removeprefix(OF_RECIPE), None)
        else:
            value = cell.facts().get(OPTIONS.get(self.name, self.name))
        return any(_same(value, text) for text in self.values)


def _same(value: object, text: str) -> bool:
    if isinstance(value, float):
        try:
            return value == float(text)
        except ValueError:
            return False
    if isinstance(value, bool):  # as TOML and as Python write it
        return text.lower() == str(value).lower()
    return text == ("none" if value is None else str(value))


def conditions(texts: Iterable[str], place: str) -> tuple[Condition, ...]:
    """From "key=value,value"; raises BnrecalError for another form and for a name no cell has."""
    found = []
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not values:
            raise BnrecalError(
                f"{place}: {text!r}; allowed: name=value,value with name one of {', '.join(NAMES)}"
            )
        if name.startswith(OF_RECIPE) and name.removeprefix(OF_RECIPE) not in Recipe.model_fields:
            raise unknown_choice("field", name, (OF_RECIPE + field for field in Recipe.model_fields), place)
        if not name.startswith(OF_RECIPE) and name not in NAMES:
            raise unknown_choice("field", name, NAMES, place)
        found.append(Condition(name, tuple(value.strip() for value in values.split(","))))
    return tuple(found)


@dataclass(frozen=True)
class Choice:
    """By default every cell that has no row; a failed cell counts as having one.

    `retry_failed` takes the failed ones instead, and only those; `force` every one, rows or not.
    """

    only: tuple[Condition, ...] = ()
    exclude: tuple[Condition, ...] = ()
    retry_failed: bool = False
    force: bool = False
    limit: int | None = None

    def among(self, cells: Sequence[Cell], done: Collection[str], failed: Collection[str]) -> list[Cell]:
        """The cells to do now."""
        chosen = [cell for cell in cells if self.covers(cell)]
        if self.retry_failed:
            chosen = [cell for cell in chosen if cell.key in failed]
        elif not self.force:
            chosen = [cell for cell in chosen if cell.key not in done and cell.key not in failed]
        return chosen[: self.limit]

    def covers(self, cell: Cell) -> bool:
        """Whether --only and --exclude let the cell through."""
        return all(c.holds(cell) for c in self.only) and not any(c.holds(cell) for c in self.exclude)
