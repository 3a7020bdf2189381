"""Recipes as TOML files: read from the user's, written beside the weights they made."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnrecal.errors import BnrecalError, unknown_choice
from bnrecal.study.inputs import Inputs
from bnrecal.study.recipe import Recipe, make_recipe

# What a file of the first version said with `max_lr`, and left to be understood.
_OLD = {"optimizer": "adamw", "schedule": "one-cycle", "sampling": "uniform", "bn_momentum": 0.0}


@dataclass(frozen=True)
class RecipeFile:
    """A recipe, with what its file says of images and network."""

    recipe: Recipe
    inputs: dict[str, Any]  # fields of `Inputs`
    arch: str | None = None


def read_recipe(path: Path) -> RecipeFile:
    """A file with the fields of `Recipe`, and any of `Inputs` and `arch`; its table `trained` is no setting.

    `max_lr` stands for lr in AdamW's one cycle over uniform paths without kept statistics, as in the files
    of the first version. Raises BnrecalError naming the file and the first setting that does not fit.
    """
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BnrecalError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BnrecalError(f"{path}: not a TOML file: {error}") from None
    found.pop("trained", None)
    if isinstance(found.get("train"), dict | list):
        raise BnrecalError(
            f"{path}: [train] makes this a study, for `sweep --study` and `rank --study`; a recipe for "
            "`train` has the fields of that table at the top"
        )
    if "max_lr" in found:
        found = {**_OLD, "lr": found.pop("max_lr"), **found}
    inputs = {name: found.pop(name) for name in Inputs.model_fields if name in found}
    arch = found.pop("arch", None)
    if arch is not None and not isinstance(arch, str):
        raise BnrecalError(f"{path}: arch: {arch!r}; needs one name, a recipe trains one network")
    for name in found:
        if name not in Recipe.model_fields:
            valid = (*Recipe.model_fields, *Inputs.model_fields, "arch")
            raise unknown_choice("setting", name, valid, f"{path}: {name}")
    places = {name: f"{path}: {name}" for name in Recipe.model_fields}
    try:
        return RecipeFile(make_recipe(found, places), inputs, arch)
    except BnrecalError as error:
        if str(path) in str(error):
            raise
        raise BnrecalError(f"{path}: {error}") from None


def recipe_text(recipe: Recipe, trained: dict[str, str]) -> str:
    """The recipe with every field that is set and heeded, and `trained`: what came of it."""
    unheeded = recipe.unheeded()
    settings = {
        name: value
        for name, value in recipe.model_dump(mode="json").items()
        if value is not None and name not in unheeded
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    facts = [f"{name} = {json.dumps(value)}" for name, value in trained.items()]
    return "\n".join([*lines, "", "[trained]", *facts, ""])
