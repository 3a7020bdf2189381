"""What a sweep would do, as a table of 80 columns: a line for each rule, however many cells it has."""

import textwrap
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from bnrecal.report.analysis.durations import spoken
from bnrecal.report.analysis.wording import counted, listed, spans

if TYPE_CHECKING:
    from bnrecal.store.store import Store
    from bnrecal.study.cells import Pass
    from bnrecal.sweep.plan import Plan

WIDTH = 80
NAMES_WIDTH = 20  # of networks; longer ones are counted


def plan_text(plan: "Plan", store: "Store") -> str:
    """The passes, the trainings under them, and what all of it may take."""
    from bnrecal.cli.messages import UNBROKEN, drawn
    from bnrecal.study.cells import Pass

    walks = [todo for todo in plan.passes if isinstance(todo, Pass)]
    parts = [drawn(_table(walks), WIDTH).strip("\n"), ""] if walks else []
    lines = [*_trainings(plan), _in_all(plan, store, len(walks))]
    wrapped = (textwrap.wrap(line, WIDTH, subsequent_indent="  ", **UNBROKEN) for line in lines)
    return "\n".join([*parts, *(line for some in wrapped for line in some), ""])


def _table(walks: Sequence["Pass"]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("rule", "bs", "images", "networks", "seed", "cells", "passes", "images read"):
        number = heading in ("cells", "passes", "images read")
        folds = heading in ("bs", "images", "networks")
        table.add_column(heading, justify="right" if number else "left", no_wrap=not folds, overflow="fold")
    for (rule, counts, networks, seeds), sizes in _lines(walks).items():
        group = [walk for some in sizes.values() for walk in some]
        table.add_row(
            rule,
            ", ".join(f"{size:,}" for size in sizes if size),
            ", ".join(f"{n:,}" for n in counts if n),
            networks,
            seeds,
            f"{sum(len(walk.cells) for walk in group):,}",
            f"{len(group):,}",
            f"{sum(walk.n_samples for walk in group):,}" if counts != (0,) else "",
        )
    return table


Line = tuple[str, tuple[int, ...], str, str]  # rule, images, networks, seeds


def _lines(walks: Sequence["Pass"]) -> dict[Line, dict[int, list["Pass"]]]:
    """By rule, images, networks and seeds, then by batch size: sizes that do the same share a line."""
    groups: dict[tuple[str, int], list[Pass]] = defaultdict(list)
    for walk in walks:
        groups[_rule(walk), walk.first.batch_size or 0].append(walk)
    found: dict[Line, dict[int, list[Pass]]] = defaultdict(dict)
    for (rule, size), group in groups.items():
        counts = tuple(sorted({cell.n_samples for walk in group for cell in walk.cells}))
        seeds = sorted({walk.first.seed for walk in group if walk.first.seed is not None})
        found[rule, counts, _networks(group), spans(seeds)][size] = group
    return found


def _rule(walk: "Pass") -> str:
    from bnrecal.study.axes import STORED, short_rule

    first = walk.first
    return "as they stand" if first.estimator == STORED else short_rule(vars(first))


def _networks(group: Iterable["Pass"]) -> str:
    """Their names, or how many: of each architecture those of every training."""
    found = {(walk.first.arch, walk.first.trained.key if walk.first.trained else "") for walk in group}
    archs = list(dict.fromkeys(walk.first.arch for walk in group))
    if len(found) > len(archs):
        return f"{len(found):,} trained"
    names = ", ".join(archs)
    return names if len(names) <= NAMES_WIDTH else f"{len(archs):,}"


def _trainings(plan: "Plan") -> list[str]:
    """How many networks are trained, and their values of each field that varies in the study."""
    from bnrecal.study.recipes import phrase, varied_fields

    trainings = plan.trainings
    if not trainings:
        return []
    recipes = [training.recipe for training in trainings]
    said = []
    for name in varied_fields(plan.opened.recipes):
        heeding = [recipe for recipe in recipes if name not in recipe.unheeded()]
        if heeding:
            said.append(_values([phrase(name, getattr(recipe, name)) for recipe in heeding]))
    what = listed(list(dict.fromkeys(training.name for training in trainings)), most=3)
    n_images = sum(training.n_samples for training in trainings)
    of_them = f" ({'; '.join(said)})" if said else ""
    return [f"{counted(len(trainings), 'network')} to train on {n_images:,} images: {what}{of_them}"]


def _values(phrases: Collection[str]) -> str:
    """ "norm batch 2, 4, 8" from "norm batch 2", "norm batch 4", "norm batch 8"; each once."""
    first, *others = dict.fromkeys(phrases)
    before = first.rpartition(" ")[0]
    shared = before and all(other.rpartition(" ")[0] == before for other in others)
    return ", ".join([first, *(other.removeprefix(f"{before} ") if shared else other for other in others)])


def _in_all(plan: "Plan", store: "Store", n_walks: int) -> str:
    from bnrecal.sweep.plan import estimated_s

    todo = f"{len(plan.cells_to_do):,} of {counted(len(plan.cells), 'cell')} to do"
    if not plan.passes:
        return todo
    n_evaluated = len(plan.cells_to_do) * plan.n_evaluation
    return (
        f"{todo} in {counted(n_walks, 'pass', 'passes')}: {plan.n_images:,} images to calibrate with, "
        f"{n_evaluated:,} to evaluate; about {spoken(estimated_s(plan, store))}"
    )
