"""A study with the task and the network source it names, opened once and handed on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from bnrecal import networks, tasks
from bnrecal.errors import BnrecalError
from bnrecal.networks.network import NetworkSource
from bnrecal.study.fitting import check_fits
from bnrecal.study.inputs import make_inputs
from bnrecal.study.recipe import Recipe
from bnrecal.study.recipes import recipes_of
from bnrecal.study.study import GRIDS, Study, make_study
from bnrecal.tasks.task import Task

MOST_ARCHS = 100_000  # of one study


@dataclass(frozen=True)
class Opened:
    """What every cell of a study shares; opening may read annotations, list folders and load weights."""

    study: Study
    task: Task
    source: NetworkSource
    recipes: tuple[Recipe, ...] = ()  # of the networks this study trains; none: its networks are as they come

    @classmethod
    def of(cls, study: Study) -> Self:
        """A study that is complete, such as one read back from a row."""
        task = tasks.of(study)
        return cls(study, task, networks.of(study, task), _recipes(study, task, {}))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know before a run."""
        about_weights = None if self.recipes else self.source.note
        return tuple(note for note in (self.task.prepared, self.task.note, about_weights) if note)


def open_study(
    settings: Mapping[str, Any],
    places: Mapping[str, str],
    usual_archs: Callable[[NetworkSource], Sequence[str]] = lambda source: source.names,
) -> Opened:
    """The study these settings ask for, with what its task and networks decide filled in.

    That is how images are prepared (by `preprocess`), the architectures of the source (also those of
    "random:K", "random:K:SEED" and "all"), and batch sizes and sample counts that the task has images for.
    `usual_archs` gives those of a study that names none.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    inputs = make_inputs(given, places)
    if inputs.task not in tasks.SCENES:  # those bring their images along as they are
        given = {**networks.preprocessing(inputs, tasks.metric_of(inputs.task)), **given}
    inputs = make_inputs(given, places)
    task = tasks.of(inputs)
    given.setdefault("reference", _has_reference(given))
    given.update(task.resolved)
    source = networks.of(inputs, task)
    archs = given.get("arch", usual_archs(source))
    given["arch"] = tuple(a for arch in archs for a in _drawn(arch, source)) if _is_list(archs) else archs
    if inputs.task not in GRIDS and "samples" not in given:
        given["samples"] = default_samples(task.n_calibration)
        if "bs" not in given:
            given["bs"] = [b for b in GRIDS["garments"][0] if b <= given["samples"][0]] or [1]
    study = make_study(given, places)
    return Opened(study, task, source, _recipes(study, task, places))


def _has_reference(given: Mapping[str, Any]) -> bool:
    """Whether the grid is the default one, which by itself would advise the cheapest of dear settings.

    A smoke run advises nothing; who asks for no baseline, or names a grid, gets what was named.
    """
    grid = ("bs", "samples", "estimator", "momentum", "train")
    named = any(name in given for name in grid) or given.get("baseline", True) is False
    return not named and given.get("task") != "tiny"


def _recipes(study: Study, task: Task, places: Mapping[str, str]) -> tuple[Recipe, ...]:
    """Of its `[train]` tables, each once; raises BnrecalError for one that does not fit the task."""
    if study.train is None:
        return ()
    if study.weights is not None and study.model == "supernet":
        place = places.get("weights", "weights")
        raise BnrecalError(f"{place}: a study that trains the supernet makes its own")
    place = places.get("train", "train")
    if study.train == ():
        raise BnrecalError(f"{place}: an empty list; needs a table of settings or several")
    if isinstance(study.train, dict):
        tables = {place: study.train}
    else:
        tables = {f"{place}[{k}]": table for k, table in enumerate(study.train, 1)}
    found: dict[str, Recipe] = {}
    for at, table in tables.items():
        of_fields = {name: f"{at}.{name}" for name in Recipe.model_fields}
        for recipe in recipes_of(table, of_fields):
            check_fits(recipe, task.name, task.metric, task.n_calibration, of_fields)
            found.setdefault(recipe.key, recipe)
    return tuple(found.values())


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


def _drawn(arch: str, source: NetworkSource) -> tuple[str, ...]:
    """The architecture itself, or those that "random:K", "random:K:SEED" or "all" stands for."""
    if arch == "all" and source.space is not None:
        if source.space.size > MOST_ARCHS:
            raise BnrecalError(f"--arch: all {source.space.size:,} architectures; use random:K")
        return tuple(map(source.space.encode, source.space.every()))
    kind, *numbers = arch.split(":")
    if kind != "random" or not numbers:
        return (arch,)
    if len(numbers) > 2 or not all(number.isascii() and number.isdigit() for number in numbers):
        raise BnrecalError(f"--arch: {arch!r}; allowed: random:K or random:K:SEED, such as random:10:1")
    n, seed = int(numbers[0]), int(numbers[1]) if len(numbers) == 2 else 0
    if not (1 <= n <= MOST_ARCHS and seed < 2**63):
        raise BnrecalError(f"--arch: {arch!r}: 1 to 100,000 architectures, a seed below 2^63")
    return source.random(n, seed)


def default_samples(n_images: int) -> tuple[int, ...]:
    """The published counts if there are so many images, else a quarter, a half and all of them.

    Multiples of 64 if possible, so that one walk serves all counts at every usual batch size.
    """
    usual = tuple(n for n in GRIDS["garments"][1] if n <= n_images)
    if len(usual) > 1:
        return usual
    unit = 64 if n_images >= 256 else 1
    parts = (n_images // 4, n_images // 2, n_images)
    return tuple(dict.fromkeys(max(1, part // unit * unit) for part in parts))
