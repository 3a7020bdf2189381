"""`bnrecal rank`."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnrecal.cli.messages import note, write_text
from bnrecal.cli.options import (
    OUT,
    SectionedCommand,
    comma_list,
    gathered,
    input_options,
    rank_options,
    setting,
)
from bnrecal.cli.race import race_text, raced
from bnrecal.cli.running import Running, running_options
from bnrecal.errors import BnrecalError
from bnrecal.report.analysis.wording import counted

if TYPE_CHECKING:
    from bnrecal.networks.network import NetworkSource
    from bnrecal.plan.opened import Opened
    from bnrecal.search.truth import Truth
    from bnrecal.store.store import Store
    from bnrecal.sweep.plan import Plan

BY_SUFFIX = {".json": "json", ".md": "md", ".txt": "text", "": "text"}
MOST_UNASKED = 100  # architectures, where none are named and the space has more


@click.command(cls=SectionedCommand)
@input_options
@rank_options
@click.option(
    "--judge",
    "judges",
    callback=comma_list,
    default="eval,bn,flops",
    show_default=True,
    help="bn, eval, stored, flops, params, random, module:function; comma list.",
)
@click.option("--truth", type=click.Path(path_type=Path), help="True values: JSON or CSV.", metavar="FILE")
@click.option(
    "--race",
    type=click.IntRange(min=1),
    metavar="K",
    help="Find the best K by eval on growing sets of images instead; nothing is kept.",
)
@setting("out", type=click.Path(path_type=Path), default=OUT, help="Output folder.", show_default=True)
@click.option("--retry-failed", is_flag=True, help="What failed before, too.")
@click.option("--dry-run", is_flag=True, help="Show what would be done; do nothing.")
@click.option(
    "--format",
    "layout",
    type=click.Choice(("text", "json", "md")),
    help="[text, or what the name of -o FILE ends in]",
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file.")
@click.pass_context
@running_options
def rank(
    context: click.Context,
    /,
    running: Running,
    study: Path | None,
    judges: tuple[str, ...],
    truth: Path | None,
    race: int | None,
    out: Path,
    retry_failed: bool,
    dry_run: bool,
    layout: str | None,
    output: Path | None,
    **options: Any,
) -> int:
    """Rank architectures by judges, and compare the judges with each other and with true values.

    eval is the metric after recalibration (--estimator, --bs, --samples), stored that of the networks as they
    stand, bn the sum of |gamma| (BN-NAS). Finished cells and judgements stay in OUT/rows.jsonl; the same
    command again does only what is missing.
    """
    from bnrecal.store.store import Store
    from bnrecal.store.truth import keep_truth

    check_where(judges, running)
    layout = layout_of(layout, output)
    opened = _each_once(opened_to_rank(*gathered(context, study, options), _usual_archs))
    known = _truth_of(truth, opened)
    store = Store(out)
    executor = running.open(opened.study, opened, out)
    plan = planned(opened, store, list(dict.fromkeys(judges)), running.jobs or 1, retry_failed)
    for text in opened.notes:
        note(text)
    if dry_run:
        click.echo(_plan_line(plan))
        return 0
    if race is not None:
        asked = context.get_parameter_source("judges") == click.core.ParameterSource.COMMANDLINE
        unheeded = [judge for judge in judges if asked and judge != "eval"]
        unheeded += ["--truth"] if truth is not None else []
        if unheeded:
            note(f"--race goes by eval alone, not by {', '.join(unheeded)}, and keeps nothing")
        found = raced(opened, plan.cells, race, running.device)
        hand_over(race_text(found, plan.n_evaluation, layout), output)
        return 0
    store.prepare()
    if known is not None and truth is not None:
        replaced = keep_truth(out, truth.stem, known)
        if replaced:
            note(f"the truth {replaced} of {out} gave way to {truth.stem}")
    run(plan, store, executor, running.name)
    hand_over(_answer(plan, store, known, truth, layout), output)
    return failures({cell.key for cell in plan.cells} | {one.key for one in plan.judgements}, store)


def layout_of(layout: str | None, output: Path | None) -> str:
    """The one asked for, or what the file's name ends in."""
    if layout is not None:
        return layout
    suffix = output.suffix.lower() if output else ""
    if suffix not in BY_SUFFIX:
        raise BnrecalError(f"-o {output}: ends in {suffix!r}; allowed: .txt, .md, .json, or --format")
    return BY_SUFFIX[suffix]


def hand_over(text: str, output: Path | None) -> None:
    if output is None:
        click.echo(text, nl=False)
    else:
        write_text(output, text)


def check_where(judges: Sequence[str], running: Running) -> None:
    """Refuse judges that are not where they would be asked."""
    own = [judge for judge in judges if ":" in judge]
    if own and running.name == "ray":
        raise BnrecalError(f"--judge: {own[0]}: a judge of your own is not taken to a cluster; use -j")


def _truth_of(path: Path | None, opened: "Opened") -> "Truth | None":
    """What the file says of these architectures. Raises BnrecalError if that is too little to compare."""
    from bnrecal.search.ranking import FEWEST
    from bnrecal.search.truth import in_spelling, read_truth

    if path is None:
        return None
    archs, whole = opened.study.arch, read_truth(path)
    found = in_spelling(whole, archs, opened.source.space)
    if len(found.values) < FEWEST:
        raise BnrecalError(
            f"--truth: {path}: knows {len(found.values)} of the {counted(len(archs), 'architecture')} to be "
            f"ranked, a comparison needs {FEWEST}; names there are such as {next(iter(whole.values))}, here "
            f"such as {archs[0]}"
        )
    return found


def opened_to_rank(
    settings: dict[str, Any],
    places: dict[str, str],
    usual_archs: "Callable[[NetworkSource], Sequence[str]]",
) -> "Opened":
    """The study, with what `recalibrate` does by default where no setting of eval is named."""
    from dataclasses import replace

    from bnrecal.plan.opened import open_study
    from bnrecal.study.cells import USUAL

    estimator, batch_size, n_samples = USUAL
    opened = open_study({"estimator": [estimator], **settings}, places, usual_archs)
    n = min(n_samples, opened.task.n_calibration)
    usual: dict[str, tuple[int, ...]] = {"samples": (n,), "bs": (min(batch_size, n),)}
    missing = {name: values for name, values in usual.items() if settings.get(name) is None}
    return replace(opened, study=opened.study.model_copy(update=missing))


def _each_once(opened: "Opened") -> "Opened":
    """Of several names of one architecture the first; the others would count as agreeing with it."""
    from dataclasses import replace

    space, first = opened.source.space, dict[Any, str]()
    for arch in opened.study.arch:
        kept = first.setdefault(arch if space is None else space.decode(arch), arch)
        if kept != arch:
            note(f"{arch} is {kept}, which is ranked once")
    return replace(opened, study=opened.study.model_copy(update={"arch": tuple(first.values())}))


def _usual_archs(source: "NetworkSource") -> Sequence[str]:
    if source.space is None:
        return source.names
    return ["all" if source.space.size <= MOST_UNASKED else f"random:{MOST_UNASKED}"]


def planned(
    opened: "Opened", store: "Store", judges: Sequence[str], jobs: int, retry_failed: bool = False
) -> "Plan":
    """What these judges need; subnets that are chains of modules go together up to where they part."""
    from bnrecal.plan.judgements import to_rank
    from bnrecal.plan.passes import MOST_SHARED, Grouping, grouped, grouped_sharing
    from bnrecal.study.selection import Choice
    from bnrecal.sweep.plan import plan_of

    cells, judgements = to_rank(opened, judges)
    grouping: Grouping = grouped
    # whether networks that are still to be trained are chains shows when they are there
    if opened.recipes or opened.source.chain(opened.study.arch[0]) is not None:
        fair = -(-len(opened.study.arch) // jobs)  # so that every process has a tree of its own
        grouping = grouped_sharing(min(MOST_SHARED, fair))
    return plan_of(opened, store, cells, judgements, grouping, Choice(retry_failed=retry_failed))


def _plan_line(plan: "Plan") -> str:
    n_images = plan.n_images + len(plan.cells_to_do) * plan.n_evaluation
    trained = f"{counted(len(plan.trainings), 'network')} to train, " if plan.trainings else ""
    return (
        f"{counted(len(plan.study.arch), 'architecture')}: {trained}{counted(len(plan.cells_to_do), 'cell')} "
        f"with {n_images:,} images and {counted(len(plan.judgements_to_do), 'judgement')} to do"
    )


def run(plan: "Plan", store: "Store", executor: Any, executor_name: str) -> None:
    """Do what is missing; each row is on the disk before the next is asked for."""
    from contextlib import closing

    from rich.console import Console

    from bnrecal.sweep.plan import prepare
    from bnrecal.sweep.progress import SweepProgress, decoding
    from bnrecal.sweep.sweep import sweep

    if not plan.passes:
        return
    console = Console(stderr=True)
    resolved = store.keep_study(plan.study)
    click.echo(f"{_plan_line(plan)}; study: {resolved}", err=True)
    if executor_name != "ray":  # nodes decode for themselves
        with decoding(console) as on_decoded:
            prepare(plan, on_decoded)
    n_images = plan.n_images + plan.n_trained_on + len(plan.cells_to_do) * plan.n_evaluation
    shown = SweepProgress(console, n_images, len(plan.todo), plan.cells_to_do, plan.opened.recipes)

    def waiting(n: int) -> None:
        click.echo(f"another sweep has taken {n} of these cells; waiting for it", err=True)

    rows = sweep(plan, store, executor, shown.images, waiting, resolved.name, shown.note)
    with shown, executor, closing(rows):
        for row in rows:
            shown.cell(row, plan.n_evaluation)


def _answer(plan: "Plan", store: "Store", truth: "Truth | None", path: Path | None, layout: str) -> str:
    from bnrecal.report.analysis.judged import judged_of
    from bnrecal.report.formats.judged import rendered

    keys = {cell.key for cell in plan.cells} | {one.key for one in plan.judgements}
    rows = [row for row in store.latest() if row["key"] in keys]
    return rendered(judged_of(rows, truth, path.stem if path else None), layout)


def failures(keys: "Collection[str]", store: "Store") -> int:
    """Says how many of the rows of these keys failed; the exit code."""
    from bnrecal.cli.messages import complain

    status = store.seen().status
    n = sum(status.get(key) == "failed" for key in keys)
    if not n:
        return 0
    return complain(f"{n:,} of {len(keys):,} failed; the same command with --retry-failed does them again", 3)
