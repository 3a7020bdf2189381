"""Many recipes from one table, and what to call each beside the others."""

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from bnrecal.errors import BnrecalError, unknown_choice
from bnrecal.study.inputs import valid
from bnrecal.study.recipe import OF_LAYERS, Recipe, without_effect

# Fields whose values speak for themselves.
_PLAIN = ("norm", "batches", "optimizer", "schedule", "augment", "precision")
_NAMED = {"batch_size": "batch", "bn_momentum": "BN momentum", "weight_decay": "decay"}
_WITHOUT = {
    "norm_batch": "whole batch",
    "physical_batch": "whole step",
    "clip_norm": "no clipping",
    "warmup": "no warmup",
    "warmup_fraction": "no warmup",
    **{name: f"{name.replace('_', ' ')} {value:g}" for name, value in OF_LAYERS.items()},
}
MOST = 10_000  # combinations of one table that are looked at


def recipes_of(table: Mapping[str, Any], places: Mapping[str, str] | None = None) -> list[Recipe]:
    """Every combination of the values in a `[train]` table, the last field fastest, each recipe once.

    A list stands for several values; numbers alone are one value of `betas` and of `flops_bins`. Raises
    BnrecalError naming the place of the first setting that does not fit, and one that no recipe heeds.
    """
    places = places or {}
    fields = Recipe.model_fields
    for name in table:
        if name not in fields:
            raise unknown_choice("setting", name, fields, places.get(name, name))
        if isinstance(table[name], list | tuple) and not table[name]:
            raise BnrecalError(f"{places.get(name, name)}: an empty list; needs a value or several")
    values = [_values(name, value) for name, value in table.items()]
    n = math.prod(map(len, values))
    if n > MOST:
        first = next(iter(table))
        place = places.get(first, "train").removesuffix(f".{first}")
        raise BnrecalError(f"{place}: {n:,} combinations of its values; at most {MOST:,} are planned at once")
    every = [
        valid(Recipe, dict(zip(table, combination, strict=True)), places)
        for combination in itertools.product(*values)
    ]
    found = list({recipe.key: recipe for recipe in every}.values())
    for name in table:
        if all(name in recipe.unheeded() for recipe in found):
            raise without_effect(name, found, places.get(name, name))
    return found


def _values(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        return [value]
    if name in ("betas", "flops_bins") and not any(isinstance(item, list | tuple) for item in value):
        return [value]
    return list(value)


def varied_fields(recipes: Sequence[Recipe]) -> tuple[str, ...]:
    """The fields in which these recipes differ, in their order.

    A field counts among the recipes that heed it: what comes with one norm alone tells nothing more.
    """
    unheeded = [recipe.unheeded() for recipe in recipes]
    found = []
    for name in Recipe.model_fields:
        heeding = [recipe for recipe, without in zip(recipes, unheeded, strict=True) if name not in without]
        if len({repr(getattr(recipe, name)) for recipe in heeding}) > 1:
            found.append(name)
    return tuple(found)


def label(recipe: Recipe, varied: Collection[str]) -> str:
    """What tells this recipe from others that differ in the fields `varied`: "cbn, norm batch 4".

    What this recipe does not heed is left out of it. "as usual" if nothing is left.
    """
    parts = [
        phrase(name, getattr(recipe, name))
        for name in Recipe.model_fields
        if name in varied and name not in recipe.unheeded()
    ]
    return ", ".join(parts) or "as usual"


def phrase(name: str, value: Any) -> str:
    """A field and its value in a few words: "norm batch 4", "gn", "no nesterov"."""
    words = _NAMED.get(name, name.replace("_", " "))
    if value is None:
        return _WITHOUT.get(name, f"{words} as usual")
    if isinstance(value, bool):
        return words if value else f"no {words}"
    if isinstance(value, tuple):
        return f"{words} {'/'.join(f'{item:g}' for item in value)}"
    if name in _PLAIN and value != "none":
        return str(value)
    return f"{words} {value:g}" if isinstance(value, float) else f"{words} {value}"
