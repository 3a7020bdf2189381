"""Rows traced back: found by the first digits of their key, and the study that gives a row's cell again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bnrecal.errors import BnrecalError
from bnrecal.store.rows import Row
from bnrecal.study.axes import grid_of
from bnrecal.study.cells import JUDGE, TRAIN
from bnrecal.study.inputs import Inputs, valid
from bnrecal.study.recipe import Recipe, make_recipe
from bnrecal.study.recipes import label, varied_fields
from bnrecal.study.study import Study, make_study


def row_of_key(rows: Sequence[Row], prefix: str) -> Row:
    """The row whose key starts with `prefix`; raises BnrecalError for none and for several."""
    found = [row for row in rows if row["key"] == prefix] or [
        row for row in rows if row["key"].startswith(prefix)
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        raise BnrecalError(f"KEY: no row of key {prefix!r}; `bnrecal report --format csv` lists the keys")
    keys = ", ".join(row["key"] for row in found[:4]) + (", ..." if len(found) > 4 else "")
    raise BnrecalError(f"KEY: {prefix!r} begins {len(found)} keys: {keys}; give more digits")


def inputs_of(row: Row) -> Mapping[str, Any]:
    """What opens the row's images and network; rows that do not say have only a task."""
    return row.get("inputs") or {"task": row["task"]}


def recipe_of(row: Row) -> Recipe | None:
    """How the row's network was trained, if a study did.

    Raises BnrecalError, naming the row, for what is no recipe here: one of a newer version has more fields.
    """
    found = row.get("recipe")
    if found is None:
        return None
    return valid(Recipe, found, dict.fromkeys(found, f"row {row['key']}: recipe"))


def trained_how(rows: Sequence[Row]) -> list[str]:
    """Of each row's recipe what differs from the defaults or from others; "" of what no study trained."""
    recipes = [recipe_of(row) for row in rows]
    told = varied_fields([make_recipe({}), *filter(None, recipes)])
    return ["" if recipe is None else label(recipe, told) for recipe in recipes]


def trained_apart(rows: Sequence[Row]) -> tuple[str, list[str]]:
    """The same in two parts: what all recipes have in common ("" of a single one), what each has besides."""
    recipes = [recipe_of(row) for row in rows]
    trained = [recipe for recipe in recipes if recipe is not None]
    told = varied_fields([make_recipe({}), *trained])
    by_some = {name for recipe in trained for name in recipe.unheeded()}.union(varied_fields(trained))
    common = [name for name in told if name not in by_some] if len(set(trained)) > 1 else []
    own = [name for name in told if name not in common]
    return (
        label(trained[0], common) if common else "",
        ["" if recipe is None else label(recipe, own) for recipe in recipes],
    )


def study_of(row: Row) -> Study:
    """The study of this row's cell or judgement alone; raises BnrecalError where the row cannot be one's."""
    settings = {**inputs_of(row), **_grid_of(row), "baseline": False}
    if row.get("trained") is not None:
        settings["train"] = row.get("recipe") or {}
    return make_study(settings, {name: f"row {row['key']}: {name}" for name in settings})


def _grid_of(row: Row) -> dict[str, Any]:
    """The settings of a study that has this row's cell or judgement alone."""
    if row.get("kind") == JUDGE:
        return {"arch": [row["arch"]], "seed": row.get("seed") or 0}
    return grid_of(row)


def command_of(row: Row, folder: Path) -> list[str]:
    """The words of the command that does this cell again, into a folder of its own."""
    judged = row.get("kind") == JUDGE
    words = ["bnrecal", *(["rank", "--judge", row["judge"]] if judged else ["sweep"])]
    kept = folder / str(row.get("study"))
    is_training = row.get("kind") == TRAIN
    if not judged and (row.get("trained") is not None or is_training):  # a recipe has no options, only a file
        which = [] if is_training else ["--only", f"key={row['key']}"]
        return [*words, "--study", str(kept), *which, *_threads(row), "--out", f"again-{row['key'][:8]}"]
    if kept.parent == folder and kept.is_file():  # a row may name any path; only a file beside it is meant
        of_it = [] if judged else ["--repeats", "1", "--no-reference"]  # of the study this cell alone
        words += ["--study", str(kept), *of_it]
    else:
        for name in Inputs.model_fields:
            value = inputs_of(row).get(name)
            if value is True:
                words.append(_flag(name))
            elif name == "image_size" and isinstance(value, list):
                words += [_flag(name), "x".join(map(str, value))]
            elif value is not None and value is not False:
                words += [_flag(name), _text(value)]
    for name, value in _grid_of(row).items():
        words += [_flag(name), _text(value)]
    if not judged:
        words.append("--no-baseline")
    return [*words, *_threads(row), "--out", f"again-{row['key'][:8]}"]


def _threads(row: Row) -> list[str]:
    """As many as then: a convolution may round otherwise under another number."""
    threads = row.get("environment", {}).get("threads")
    return ["--threads", str(threads)] if isinstance(threads, int) else []


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
