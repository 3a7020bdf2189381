"""Markdown tables of the averaging study: python table.py AVERAGED COPIED [-o FILE].

For each learning rate and average: eval with statistics copied from the weights trained last, averaged as
the weights are, and re-estimated; then what re-estimation gives over each of the others. Means over
trainings; 95 % intervals by Student's t, each over the trainings of its own line, since averages scatter by
factors of a hundred.
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev

from scipy.stats import t

from bnrecal.store.store import Store

LEVEL = 0.95
COPIED, AVERAGED = "copied", "averaged"
Evals = Mapping[str, dict[int, float]]  # by statistics, then by training


def evals_of(averaged: Path, copied: Path) -> dict[str, dict[str, Evals]]:
    """By schedule, then by average."""
    found: dict[str, dict[str, dict[str, dict[int, float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(dict))
    )
    for folder, as_stands in ((averaged, AVERAGED), (copied, COPIED)):
        for row in Store(folder).evaluated():
            if row["status"] != "done":
                continue
            schedule, _, rest = row["arch"].partition(".")
            average, _, seed = rest.rpartition(".")
            statistics = as_stands if row["estimator"] == "stored" else f"{row['n_samples']:,}"
            found[schedule][average][statistics][int(seed)] = row["eval"]
    return found


def gains(table: Mapping[str, Evals], statistics: str, over: str) -> dict[str, list[float]]:
    """What `statistics` give over others, by average: a difference for each training."""
    return {
        average: [evals[statistics][seed] - evals[over][seed] for seed in sorted(evals[over])]
        for average, evals in table.items()
        if over in evals
    }


def said(differences: Mapping[str, list[float]]) -> dict[str, str]:
    """Mean and interval, by average."""
    found = {}
    for average, each in differences.items():
        found[average] = f"{mean(each):+.4f}"
        if len(each) > 1:
            half = t.ppf((1 + LEVEL) / 2, len(each) - 1) * stdev(each) / len(each) ** 0.5
            found[average] += f" ({mean(each) - half:+.4f} to {mean(each) + half:+.4f})"
    return found


def lines_of(table: Mapping[str, Evals]) -> list[str]:
    counts = sorted(
        {s for e in table.values() for s in e} - {COPIED, AVERAGED}, key=lambda s: float(s.replace(",", ""))
    )
    most = counts[-1]
    over_copied, over_averaged = (said(gains(table, most, over)) for over in (COPIED, AVERAGED))
    head = ["average", COPIED, AVERAGED, *counts, f"{most} over copied", f"{most} over averaged"]
    lines = [f"| {' | '.join(head)} |", f"| :-- |{' --: |' * (len(head) - 1)}"]
    for average in sorted(table, key=lambda name: (name != "last", name)):
        evals = table[average]
        figures = [
            f"{mean(evals[s].values()):.4f}" if s in evals else "" for s in (COPIED, AVERAGED, *counts)
        ]
        cells = [average, *figures, over_copied.get(average, ""), over_averaged.get(average, "")]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def text_of(averaged: Path, copied: Path) -> str:
    lines: list[str] = []
    for schedule, table in evals_of(averaged, copied).items():
        lines += [f"### {schedule} learning rate", "", *lines_of(table), ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("averaged", type=Path)
    parser.add_argument("copied", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    text = text_of(given.averaged, given.copied)
    if given.output is None:
        print(text)
    else:
        given.output.write_text(text)


if __name__ == "__main__":
    main()
