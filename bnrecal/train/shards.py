"""Which images of a step each of several processes takes."""

import itertools

from bnrecal.errors import BnrecalError
from bnrecal.study.recipe import Recipe


def forwards(n_images: int, recipe: Recipe) -> list[slice]:
    """The forwards of a step of so many images, one after another."""
    size = recipe.forward_batch
    return [slice(start, min(start + size, n_images)) for start in range(0, n_images, size)]


def shards(whole: slice, recipe: Recipe, n: int) -> list[slice]:
    """The images of a forward by process: consecutive, in whole norm batches, as equal as that allows."""
    group = recipe.norm_batch or 1
    n_groups = (whole.stop - whole.start) // group
    ends = [whole.start + group * (n_groups * rank // n) for rank in range(n + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(ends)]


def check_shards(sizes: set[int], recipe: Recipe, n: int) -> None:
    """Raise BnrecalError if a forward of steps of these sizes leaves a process without images."""
    group = recipe.norm_batch or 1
    for size in sorted(sizes, reverse=True):
        for whole in forwards(size, recipe):
            here = whole.stop - whole.start
            if here // group >= n:
                continue
            what = f"{here // group} norm batches of {group}" if recipe.norm_batch else f"{here} images"
            short = " (a short last one; drop_last leaves it out)" if here < recipe.forward_batch else ""
            raise BnrecalError(
                f"--processes: {n}, but a forward has {what}{short}; use at most {here // group}"
            )
