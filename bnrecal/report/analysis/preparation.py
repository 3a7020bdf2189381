"""That images are scaled otherwise than in training, or layers left alone: what rows of networks as they
stand say of their study.

Rows from before it was looked at say nothing.
"""

from collections.abc import Collection, Iterable, Mapping

from bnrecal.data.prepared import Prepared
from bnrecal.report.analysis.finding import Finding
from bnrecal.report.analysis.wording import listed
from bnrecal.store.store import Row
from bnrecal.study.axes import STORED
from bnrecal.study.frozen import LeftAlone

TOPIC = "preparation"
AS_THEY_ARE = "With the images as they are:"


def first_of_all(stored: Mapping[str, Row]) -> list[str]:
    """Of networks as they stand, by name: a sentence for each normalisation that fits some far better.

    That of most networks comes first; it tells the evidence of the network that gains most.
    """
    found = {name: one for name, row in stored.items() if (one := prepared_of(row)) is not None}
    by_remedy: dict[str, dict[str, Prepared]] = {}
    for name, one in found.items():
        by_remedy.setdefault(one.better.remedy, {})[name] = one
    return [_sentence(mine, len(stored)) for mine in sorted(by_remedy.values(), key=len, reverse=True)]


def prepared_of(row: Row) -> Prepared | None:
    facts = row.get("preparation")
    return None if facts is None else Prepared.of(facts)


def _sentence(mine: Mapping[str, Prepared], n_networks: int) -> str:
    """For all of these, which one normalisation fits."""
    name, most = max(mine.items(), key=lambda item: item[1].then - item[1].now)
    if n_networks == 1:
        return most.sentence
    which = f" for {listed(list(mine))}" if len(mine) < n_networks else ""
    return f"First{which} {most.better.remedy}. The reason, on {name}: {most.why}."


def preparation_of(stored: Mapping[str, Row], told: Collection[str]) -> list[Finding]:
    """The same as findings, where not every row that says something is among those already told, by keys."""
    untold = any(row["key"] not in told for row in stored.values())
    said = [*first_of_all(stored), *left_alone_of(stored)] if untold else []
    return [Finding(TOPIC, text) for text in said]


def notes_of(rows: Iterable[Row]) -> list[str]:
    """Both of any rows, for those that show no report."""
    stored = {_name(row): row for row in rows if row["estimator"] == STORED}
    return [*first_of_all(stored), *left_alone_of(stored)]


def left_alone_of(stored: Mapping[str, Row]) -> list[str]:
    """That BatchNorms were left alone for their mode: a sentence for the networks of which it is the same."""
    by_text: dict[str, list[str]] = {}
    for name, row in stored.items():
        if (facts := row.get("left_alone")) is not None:
            by_text.setdefault(LeftAlone(**facts).sentence, []).append(name)
    return [f"Of {listed(names)} {text}" for text, names in by_text.items()]


def _name(row: Row) -> str:
    return row["arch"] if row.get("trained") is None else f"{row['arch']} (training {row['trained'][:8]})"
