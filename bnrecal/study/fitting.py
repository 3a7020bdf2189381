"""Whether a recipe can be trained on a task: known from the task's kind and size, before any network is."""

from collections.abc import Mapping

from bnrecal.errors import BnrecalError
from bnrecal.study.recipe import Recipe

# Fields about images that have one class each, with the value that asks for nothing.
_OF_CLASSES = {"batches": "shuffled", "augment": "none", "label_smoothing": 0.0}


def check_fits(
    recipe: Recipe, task: str, metric: str, n_images: int, places: Mapping[str, str] | None = None
) -> None:
    """Raise BnrecalError naming the place of a field that this task (its name) has no use for.

    `n_images`: those it trains on.
    """
    places = places or {}
    for name, none in _OF_CLASSES.items():
        value = getattr(recipe, name)
        if metric != "top1" and value != none:
            raise BnrecalError(
                f"{places.get(name, name)}: {value!r} is for classification, task {task} is detection; "
                "leave it out"
            )
    if n_images < recipe.batch_size:
        raise BnrecalError(
            f"{places.get('batch_size', 'batch_size')}: {recipe.batch_size} images a step, task {task} has "
            f"{n_images} to train on"
        )
