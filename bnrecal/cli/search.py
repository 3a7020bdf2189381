"""`bnrecal search`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnrecal.cli.messages import note
from bnrecal.cli.options import (
    OUT,
    SectionedCommand,
    comma_list,
    gathered,
    input_options,
    setting,
    setting_options,
)
from bnrecal.cli.rank import check_where, failures, hand_over, layout_of, opened_to_rank, planned
from bnrecal.cli.running import Running, running_options
from bnrecal.errors import BnrecalError

if TYPE_CHECKING:
    from bnrecal.plan.opened import Opened
    from bnrecal.search.evolution import Settings
    from bnrecal.search.judges import Scores
    from bnrecal.store.searched import Search
    from bnrecal.store.store import Store
    from bnrecal.sweep.generations import Asked, Bounds, Searching

NOT_ADDITIVE = "costs of this space do not add up over layers, so it is searched by evolution, not solved"
METHODS = ("auto", "evolution", "exact")
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def amount(_: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """ "475M", "1.2G", "300000"."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]?)", value.strip().lower())
    if found is None:
        name = str(parameter.name).replace("_", "-")
        raise BnrecalError(f"--{name}: {value!r}; allowed: a number, such as 475M or 300k")
    return round(float(found[1]) * _UNITS[found[2]])


@click.command(cls=SectionedCommand)
@input_options
@setting_options
@click.option("--judge", default="eval", show_default=True, help="One of those of `bnrecal rank`.")
@click.option(
    "--max-flops", callback=amount, metavar="N", help="Multiply-accumulates of an image, such as 475M."
)
@click.option("--max-params", callback=amount, metavar="N", help="Parameters, such as 3M.")
@click.option(
    "--forbid", callback=comma_list, metavar="LAYER:CHOICE", help="Choices not to take; *: any layer."
)
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="auto",
    show_default=True,
    help="evolution, or the exact optimum of a judge that adds up over layers: bn, flops, params.",
)
@click.option(
    "--population", type=click.IntRange(min=1), default=50, show_default=True, help="Of a generation."
)
@click.option(
    "--generations", type=click.IntRange(min=1), default=20, show_default=True, help="The first one too."
)
@click.option(
    "--search-seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the evolution."
)
@setting("out", type=click.Path(path_type=Path), default=OUT, help="Output folder.", show_default=True)
@click.option("--retry-failed", is_flag=True, help="What failed before, too.")
@click.option(
    "--format", "layout", type=click.Choice(("text", "json", "md")), help="[text, or as -o FILE ends]"
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file.")
@click.pass_context
@running_options
def search(
    context: click.Context,
    /,
    running: Running,
    study: Path | None,
    judge: str,
    max_flops: int | None,
    max_params: int | None,
    forbid: tuple[str, ...] | None,
    method: str,
    population: int,
    generations: int,
    search_seed: int,
    out: Path,
    retry_failed: bool,
    layout: str | None,
    output: Path | None,
    **options: Any,
) -> int:
    """Search a supernet for its best architectures by a judge, within bounds on what they cost.

    Evolution as in BN-NAS, 20 generations of 50; of a judge that adds up over layers the exact optimum.
    Every figure stays in OUT/rows.jsonl: stopped at any moment, the same command ends with the same result.
    """
    from bnrecal.store.searched import keys_of_search
    from bnrecal.store.store import Store
    from bnrecal.sweep.generations import Bounds

    layout = layout_of(layout, output)
    if "," in judge:
        raise BnrecalError(f"--judge {judge}: a search goes by one judge; `bnrecal rank` compares several")
    check_where([judge], running)
    given, places = gathered(context, study, options)
    opened = opened_to_rank(given, places, lambda source: source.names)
    store = Store(out)
    executor = running.open(opened.study, opened, out)
    within = _searching(opened, store, Bounds(max_flops, max_params), forbid or ())
    scores = _additive_scores(within, judge, method)
    settings = _settings(population, generations, search_seed)
    begun = _begun(within, judge, settings, scores is not None, forbid or ())
    for text in opened.notes:
        note(text)
    store.prepare()
    otherwise = None if method == "exact" else _begun(within, judge, settings, False, forbid or ())
    todo = _Todo(within, judge, settings, scores, running, executor, retry_failed)
    todo.run(begun, otherwise)
    hand_over(search_report(out, layout) or "", output)
    return failures(keys_of_search(out), store)


def _searching(opened: "Opened", store: "Store", bounds: "Bounds", forbid: Sequence[str]) -> "Searching":
    from bnrecal.measure.judged import costs_of
    from bnrecal.sweep.generations import Searching

    space = opened.source.space
    if space is None:
        raise BnrecalError(f"--model: {opened.study.model} names no choices, so there is nothing to search")
    if opened.recipes:
        raise BnrecalError(
            "[train]: a search is among networks that are there; train first, then give --weights"
        )
    costs = costs_of(opened.source, opened.task)
    assert costs is not None
    return Searching(opened, store, space.without(forbid), costs, bounds)


def _settings(population: int, generations: int, seed: int) -> "Settings":
    """BN-NAS' shares of a population of another size: ten parents, half mutants, half crossovers."""
    from bnrecal.search.evolution import Settings

    half = population // 2
    return Settings(population, generations, min(10, population), half, half, seed=seed)


def _additive_scores(within: "Searching", judge: str, method: str) -> "Scores | None":
    """What each choice adds to the score, where the exact optimum is asked for or to be had."""
    from bnrecal.search.judges import ADDITIVE, bn_scores
    from bnrecal.sweep.generations import COSTS, CostsDoNotAddUpError, cost_shares

    if judge not in ADDITIVE:
        if method == "exact":
            raise BnrecalError(f"--method exact: judge {judge} does not add up over layers; use evolution")
        return None
    if method == "evolution":
        return None
    if within.costs.additive is None and (within.bounds.kinds or judge in COSTS):
        if method == "exact":
            raise CostsDoNotAddUpError
        note(NOT_ADDITIVE)
        return None
    source = within.opened.source
    return bn_scores(within.space, source.candidate) if judge == "bn" else cost_shares(within.costs, judge)


def _begun(
    within: "Searching", judge: str, settings: "Settings", is_exact: bool, forbidden: Sequence[str]
) -> "Search":
    """The search before its first generation. Raises BnrecalError for a judge at several settings."""
    from dataclasses import asdict

    from bnrecal.plan.judgements import to_rank
    from bnrecal.report.analysis.judged import named
    from bnrecal.store.searched import Search

    names = within.opened.source.names[:1]
    cells, judgements = to_rank(within.of(names), [judge])
    asked: list[Any] = [*cells, *judgements]
    if len(asked) != 1:
        raise BnrecalError(
            f"--judge {judge}: at {len(asked)} settings; a search goes by one (--estimator, --bs, --samples)"
        )
    method = "exact" if is_exact else "evolution"
    made = {} if is_exact else asdict(settings)
    return Search(
        named(asked[0].facts()),
        method,
        within.bounds.kinds,
        made,
        forbidden=tuple(forbidden),
        n_space=within.space.size,
    )


class _Todo:
    """A search about to run: its rounds, one executor for all of them, and what is shown."""

    def __init__(
        self,
        within: "Searching",
        judge: str,
        settings: "Settings",
        scores: "Scores | None",
        running: Running,
        executor: Any,
        retry_failed: bool,
    ) -> None:
        self.retry_failed = retry_failed
        self.within, self.judge, self.settings, self.scores = within, judge, settings, scores
        self.running, self.executor = running, executor

    def run(self, begun: "Search", otherwise: "Search | None") -> None:
        """`otherwise` is the evolution that takes the place of an exact search whose costs do not add up."""
        from rich.console import Console

        from bnrecal.store.searched import keep_search
        from bnrecal.sweep.generations import CostsDoNotAddUpError, evolve, solve
        from bnrecal.sweep.progress import SweepProgress

        store = self.within.store
        resolved = store.keep_study(self.within.opened.study).name
        n_cells = self.settings.population * self.settings.generations
        study = self.within.opened.study
        n_images = study.samples[0] + self.within.opened.task.n_evaluation if self.judge == "eval" else 0
        shown = SweepProgress(Console(stderr=True), n_cells * n_images, n_cells)

        def measure(opened: "Opened", archs: Sequence[str]) -> "Asked":
            return self._measured(opened, shown, resolved)

        def keep(search: "Search") -> None:
            keep_search(store.folder, search)

        with shown, self.executor:
            if self.scores is not None:
                try:
                    solve(self.within, begun, self.scores, measure, keep)
                    return
                except CostsDoNotAddUpError:  # of architectures that the sums chose
                    if otherwise is None:
                        raise
                    note(NOT_ADDITIVE)
                    begun = otherwise
            evolve(self.within, begun, self.settings, measure, keep)

    def _measured(self, opened: "Opened", shown: Any, study: str) -> "Asked":
        """Do what these architectures lack; their cells or judgements in order."""
        from contextlib import closing

        from bnrecal.sweep.plan import prepare
        from bnrecal.sweep.sweep import sweep

        plan = planned(opened, self.within.store, [self.judge], self.running.jobs or 1, self.retry_failed)
        if plan.passes:
            if self.running.name != "ray":  # nodes decode for themselves
                prepare(plan, lambda _: None)
            rows = sweep(
                plan, self.within.store, self.executor, shown.images, study=study, on_note=shown.note
            )
            with closing(rows):
                for row in rows:
                    shown.cell(row, plan.n_evaluation)
        return [*plan.cells, *plan.judgements]


def search_report(out: Path, layout: str) -> str | None:
    """The report of the search in this folder, None if there was none."""
    from bnrecal.report.analysis.searched import searched_of
    from bnrecal.report.formats.searched import rendered
    from bnrecal.store.searched import kept_search
    from bnrecal.store.store import Store

    kept = kept_search(out)
    return None if kept is None else rendered(searched_of(kept, Store(out).latest()), layout)


def search_figures(out: Path, folder: Path) -> str | None:
    """Draw the figures of the search in this folder; their paths, one a line. None if there was none."""
    from bnrecal.report.analysis.searched import searched_of
    from bnrecal.report.formats.canvas import write_pictures
    from bnrecal.report.formats.searched import pictures
    from bnrecal.store.searched import kept_search
    from bnrecal.store.store import Store

    kept = kept_search(out)
    if kept is None:
        return None
    drawn = write_pictures(pictures(searched_of(kept, Store(out).latest())), folder)
    return "".join(f"{path}\n" for path in drawn)
