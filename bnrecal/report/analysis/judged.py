"""What judges said of architectures, put together from rows: `bnrecal rank` and reports of its folders."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from bnrecal.report.analysis.finding import WARM, start_left
from bnrecal.report.analysis.wording import counted
from bnrecal.search.ranking import FEWEST, Ranking, rank
from bnrecal.search.truth import Truth
from bnrecal.store.provenance import trained_apart
from bnrecal.store.rows import Row, is_evaluated
from bnrecal.study.axes import STORED, metric_name, short_rule
from bnrecal.study.cells import is_judgement, n_updates

_OF_SETTING = ("estimator", "momentum", "batch_size", "n_samples", "seed", "order_digest", "trained")
# fields of a row that tell judges of one name apart, and what they are called
_TELLING = {"seed": "seed", "code_digest": "code", "order_digest": "order"}


@dataclass(frozen=True)
class Judge:
    """One judge at one setting; `values` by architecture, more is better."""

    name: str
    values: Mapping[str, float]
    seconds: float  # what all its figures took
    n_failed: int = 0
    start_left: float = 0.0  # share of their start that its statistics still hold: of eval by ema alone


@dataclass(frozen=True)
class Judged:
    """Judges beside each other and the truth."""

    what: str  # task and metric
    judges: tuple[Judge, ...]
    ranking: Ranking | None  # None of fewer than FEWEST architectures
    truth: str | None = None  # where true values came from
    notes: tuple[str, ...] = ()
    true: Mapping[str, float] | None = None

    @property
    def archs(self) -> tuple[str, ...]:
        """Those that are compared, the highest of the first judge first; of equal ones by name."""
        if not self.judges:
            return ()
        first = self.judges[0].values
        known = first if self.ranking is None else self.ranking.archs
        return tuple(sorted(known, key=lambda arch: (-first[arch], arch)))


def judged_of(rows: Sequence[Row], truth: Truth | None = None, source: str | None = None) -> Judged:
    """Of the latest rows of a store, one a key; those of trainings are passed over.

    A judge that knows fewer than half as many architectures as another would leave too few to compare: it is
    left out, with a note; so are those with whom fewer than three would be common to all, and a truth that
    knows fewer than three. Judges of fewer give their values and no ranking.
    """
    judges = judges_of(rows)
    most = max((len(judge.values) for judge in judges), default=0)
    compared = tuple(judge for judge in judges if 2 * len(judge.values) >= most and judge.values)
    notes = [
        f"{judge.name} is left out: it judged {len(judge.values):,} of {most:,} architectures"
        for judge in judges
        if judge not in compared and most
    ]
    notes += [
        f"{counted(judge.n_failed, 'architecture')} could not be judged by {judge.name}"
        for judge in compared
        if judge.n_failed
    ]
    notes += [
        f"{judge.name} ranks by statistics that are still {100 * judge.start_left:.2g} % their start, which "
        "can turn an order round; give it more images, a smaller batch or another estimator"
        for judge in compared
        if judge.start_left > WARM
    ]
    while len(compared) > 1 and len(_known_to_all(compared)) < FEWEST <= most:
        fewest = min(reversed(compared), key=lambda judge: len(judge.values))
        left = counted(len(_known_to_all(compared)), "architecture")
        notes.append(
            f"{fewest.name} is left out: with it {left} would be left to compare, and {FEWEST} are needed"
        )
        compared = tuple(judge for judge in compared if judge is not fewest)
    n_true = 0 if truth is None else len(_known_to_all(compared) & truth.values.keys())
    if truth is not None and n_true < FEWEST <= most:
        notes.append(f"{source} knows {n_true} of these architectures; a comparison needs {FEWEST}")
        truth = source = None
    if _of_two_weights(rows):
        notes.append(
            "the weights changed under their name between these rows, and the last of each architecture are "
            "shown; rank other weights into another --out"
        )
    ranking = rank({judge.name: judge.values for judge in compared}, truth) if most >= FEWEST else None
    if not most:
        notes.append("no architecture could be judged")
    elif ranking is None:
        notes.append(f"{counted(most, 'architecture')}: order and agreement need {FEWEST}")
    elif len(ranking.archs) < most:
        whom = "every judge and the truth know" if truth else "every judge knows"
        notes.append(f"of {most:,} architectures {whom} {len(ranking.archs):,}, and these are compared")
    trainings = {row.get("trained"): row for row in rows if _is_judged(row)}
    common, _ = trained_apart(list(trainings.values()))
    if common:
        notes.append(f"every training had {common}")
    metrics = dict.fromkeys((row["task"], row["metric"]) for row in rows if _is_judged(row))
    what = ", ".join(f"{task} ({metric_name(metric)})" for task, metric in metrics)
    true = None if truth is None else truth.values
    return Judged(what, compared, ranking, source, tuple(notes), true)


def _known_to_all(judges: Sequence[Judge]) -> set[str]:
    return set.intersection(*(set(judge.values) for judge in judges)) if judges else set()


def judges_of(rows: Iterable[Row]) -> list[Judge]:
    """Every judge at every setting, each by a name of its own: `eval` first, then `stored`, then others in
    the order of rows.

    One that says the same of every training (a cost) stands once.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in _from_one_place([row for row in rows if _is_judged(row)]):
        groups.setdefault(_setting(row), []).append(row)
    groups = dict(sorted(groups.items(), key=lambda item: _rank_of_kind(item[1][0])))
    firsts = [group[0] for group in groups.values()]
    seeds = len({row["seed"] for row in firsts if is_evaluated(row)} - {None}) > 1
    _, trained = trained_apart(firsts)
    apart = _told_by(firsts, trained)
    several = len(set(apart)) > 1
    found: dict[tuple[str, bool], list[tuple[str, Row, Judge]]] = {}
    for first, how, group in zip(firsts, apart, groups.values(), strict=True):
        done = [row for row in group if row["status"] == "done"]
        values = {row["arch"]: float(row["eval" if is_evaluated(row) else "score"]) for row in done}
        name = named(first, seeds)
        seconds = sum(row["total_s"] for row in done)
        judge = Judge(name, values, seconds, len(group) - len(done), _start_left(first))
        found.setdefault((name, is_evaluated(first)), []).append((how, first, judge))
    return [
        judge
        for (_, is_measured), alike in found.items()
        for judge in _told_apart(alike, several, is_measured)
    ]


def _rank_of_kind(row: Row) -> int:
    return 2 if is_judgement(row) else int(row["estimator"] == STORED)


def _told_by(firsts: Sequence[Row], trained: Sequence[str]) -> list[str]:
    """What tells the networks and images of each judge from those of others: recipe, weights file, data."""
    sources = [_source(row) for row in firsts]
    several = [len(set(column)) > 1 for column in zip(*sources, strict=True)]
    found = []
    for how, (model, weights, task, metric, data) in zip(trained, sources, strict=True):
        parts = [how] if how else []
        parts += [str(model)] if several[0] else []
        parts += [str(PurePath(*weights)) if weights else "its own weights"] if several[1] else []
        parts += [f"{task} ({metric_name(metric)})"] if several[2] or several[3] else []
        parts += [f"data {str(data)[:6]}"] if several[4] else []
        found.append(", ".join(parts))
    return found


def _from_one_place(rows: Sequence[Row]) -> list[Row]:
    """The rows with weights files named as from one folder: "../w/a.pt" is the "x/w/a.pt" of another row.

    A command that goes on in another folder names the same file by another path.
    """
    names = {row["inputs"]["weights"] for row in rows if (row.get("inputs") or {}).get("weights")}
    parts = {name: tuple(p for p in PurePath(name).parts if p not in ("..", ".")) for name in names}
    longest = {
        name: max((other for other in names if parts[other][-len(own) :] == own), key=lambda o: len(parts[o]))
        for name, own in parts.items()
    }
    return [
        {**row, "inputs": {**row["inputs"], "weights": longest[row["inputs"]["weights"]]}}
        if (row.get("inputs") or {}).get("weights")
        else row
        for row in rows
    ]


def _source(row: Row) -> tuple[Any, ...]:
    """(model, parts of the weights file, task, metric, data): where rows differ, so do their judges."""
    inputs = row.get("inputs") or {}
    weights = None if row.get("trained") else inputs.get("weights")
    return (
        inputs.get("model"),
        weights and PurePath(weights).parts,
        row["task"],
        row["metric"],
        row["data_digest"],
    )


def _of_two_weights(rows: Iterable[Row]) -> bool:
    """Whether an architecture has figures of two weights under one name: the file was overwritten since."""
    digests: dict[tuple[Any, ...], str] = {}
    return any(
        digests.setdefault((*_setting(row), row["arch"]), row["weights_digest"]) != row["weights_digest"]
        for row in rows
        if _is_judged(row) and not row.get("trained")
    )


def _told_apart(alike: Sequence[tuple[str, Row, Judge]], several: bool, is_measured: bool) -> list[Judge]:
    """Judges of one name, each by the recipe that it speaks of; one where all say the same without images.

    Measured ones stay apart even so: accuracies of two trainings may be equal, and are two findings. What
    recipes and sources do not tell apart, a seed, a judge's code or the order of the images does.
    """
    judges = [judge for _, _, judge in alike]
    first, *others = judges
    if others and not is_measured and all(judge.values == first.values for judge in others):
        seconds, n_failed = sum(judge.seconds for judge in judges), sum(judge.n_failed for judge in judges)
        return [replace(first, seconds=seconds, n_failed=n_failed)]
    parts = [[how] if several and how else [] for how, _, _ in alike]
    for field, word in _TELLING.items():
        values = [row.get(field) for _, row, _ in alike]
        if len({tuple(part) for part in parts}) == len(parts):
            break
        if len(set(values)) > 1:
            parts = [[*part, f"{word} {str(value)[:6]}"] for part, value in zip(parts, values, strict=True)]
    return [
        replace(judge, name=", ".join([judge.name, *part])) for judge, part in zip(judges, parts, strict=True)
    ]


def _start_left(row: Row) -> float:
    """The share of the statistics from before the first image that the row's exponential average holds."""
    if not is_evaluated(row) or row["estimator"] != "ema" or row["momentum"] is None:
        return 0.0
    return start_left(row["momentum"], n_updates(row["n_samples"], row["batch_size"]))


def _is_judged(row: Row) -> bool:
    return (is_evaluated(row) or is_judgement(row)) and row["status"] in ("done", "failed")


def _setting(row: Row) -> tuple[Any, ...]:
    """What rows of one judge at one setting have in common."""
    asked: tuple[Any, ...]
    if is_judgement(row):
        asked = row["judge"], row.get("seed"), row.get("code_digest"), row.get("trained")
    else:
        asked = tuple(row.get(name) for name in _OF_SETTING)
    return *asked, *_source(row)


def named(row: Row, seeds: bool = False) -> str:
    """ "bn", "stored", "eval pooled bs 64 n 128"."""
    if is_judgement(row):
        return str(row["judge"])
    if row["estimator"] == STORED:
        return STORED
    seed = f" seed {row['seed']}" if seeds else ""
    return f"eval {short_rule(row)} bs {row['batch_size']:,} n {row['n_samples']:,}{seed}"
