"""Judges of architectures beside each other and the truth: text, Markdown, JSON."""

import dataclasses
import json
import math
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from bnrecal.report.analysis.judged import Judged
from bnrecal.report.analysis.wording import counted
from bnrecal.report.formats.markdown import escape, table
from bnrecal.search.ranking import FEWEST_SURE, TOP_K, Agreement, Figure, Ranking

FORMATS = ("text", "json", "md")
HIGHEST = 10  # architectures shown
WIDTH = 80  # of sentences
MOST_SHOWN = 6  # judges in the table of these
INTERVALS = (
    "In brackets 95 % intervals, a bootstrap over architectures: how a figure would vary with others of the "
    "same space, not with another training."
)
NO_INTERVALS = f"No intervals: of fewer than {FEWEST_SURE} architectures they would not cover."
REGRET = (
    "Regret: how far the truly best of a judge's first (first 10) falls short of the best there is, in units "
    "of the truth, ties at their worst. Best tenth: of the truth."
)
ONE_TRAINING = (
    "One training: each run by itself held against the mean of the others, the tenth by these too. What one "
    "more training would know, not a bound."
)
Table = tuple[list[str], list[list[str]]]  # headers, rows
LABELS = "abcdefghijklmnopqrstuvwxyz"


def rendered(judged: Judged, layout: str) -> str:
    """In one of FORMATS."""
    return {"text": to_text, "json": to_json, "md": to_markdown}[layout](judged)


def to_text(judged: Judged) -> str:
    """Tables no wider than a terminal as far as letters for the judges can make them so."""
    if not judged.judges:
        return "\n\n".join([heading(judged), *map(filled, says(judged))]) + "\n"
    first, *others = _tables(judged)
    tables = [*_in_two(*first), *others]
    drawn = [aligned(*found, _names(found)) for found in tables]
    if max(map(_width, drawn)) > WIDTH and len(judged.judges) <= len(LABELS):
        names = [judge.name for judge in judged.judges]
        short = dict(zip(names, LABELS, strict=False))
        drawn = [aligned(["", "judge"], [[short[name], name] for name in names], 2)]
        drawn += [aligned(*_with(short, found), _names(found)) for found in tables]
    above = _above_highest(judged)
    drawn[-1] = f"{above}\n\n{drawn[-1]}" if above else drawn[-1]
    parts = [heading(judged), *drawn, *map(filled, says(judged)), *map(filled, _foot(judged))]
    return "\n\n".join(parts) + "\n"


def _width(drawn: str) -> int:
    return max(map(len, drawn.splitlines()))


def _with(short: "dict[str, str]", found: Table) -> Table:
    """The table with these names for judges, in headers and in the columns of names."""
    headers, rows = found
    n = _names(found)
    return (
        [short.get(header, header) for header in headers],
        [[*(short.get(cell, cell) for cell in row[:n]), *row[n:]] for row in rows],
    )


def _in_two(headers: list[str], rows: list[list[str]]) -> list[Table]:
    """The table of judges; one with the truth in two, of which each fits the terminal."""
    if len(headers) <= 3:
        return [(headers, rows)]
    second = [headers[0], *headers[3:]], [[row[0], *row[3:]] for row in rows]
    return [(headers[:3], [row[:3] for row in rows]), second]


def _above_highest(judged: Judged) -> str:
    """What the last table leaves out."""
    n = len(judged.archs)
    return f"The {HIGHEST} highest by {judged.judges[0].name}, of {n:,}:" if n > HIGHEST else ""


def to_markdown(judged: Judged) -> str:
    parts = [f"## {escape(heading(judged))}"]
    parts += [table(*_escaped(found)) for found in _tables(judged) if judged.judges]
    if above := _above_highest(judged):
        parts.insert(-1, escape(above))
    return "\n\n".join([*parts, *map(escape, says(judged)), *_foot(judged)]) + "\n"


def _escaped(found: Table) -> Table:
    """Names as Markdown shows them; figures, which have brackets of ours, as they are."""
    headers, rows = found
    n = _names(found)
    return list(map(escape, headers)), [[*map(escape, row[:n]), *row[n:]] for row in rows]


def to_json(judged: Judged) -> str:
    """Figures, intervals and every judge's values by architecture."""
    ranking = judged.ranking or Ranking(judged.archs, {}, {}, {}, None)
    found = {
        "what": judged.what,
        "truth": judged.truth,
        "architectures": list(judged.archs),
        "judges": {
            judge.name: {"seconds": judge.seconds, "failed": judge.n_failed, "values": dict(judge.values)}
            for judge in judged.judges
        },
        "between": [
            {"judges": list(pair), **dataclasses.asdict(found)} for pair, found in ranking.between.items()
        ],
        "against_truth": {name: dataclasses.asdict(found) for name, found in ranking.against.items()},
        "differences": [
            {"judges": list(pair), **dataclasses.asdict(found), "noise": found.is_noise}
            for pair, found in ranking.differences.items()
        ],
        "ceiling": None if ranking.ceiling is None else dataclasses.asdict(ranking.ceiling),
        "notes": list(judged.notes),
    }
    return json.dumps(without_nan(found), indent=1, allow_nan=False) + "\n"


def without_nan(found: Any) -> Any:
    """null for what is undefined: JSON has no NaN."""
    if isinstance(found, dict):
        return {name: without_nan(value) for name, value in found.items()}
    if isinstance(found, list | tuple):
        return [without_nan(value) for value in found]
    return None if isinstance(found, float) and math.isnan(found) else found


def filled(sentence: str) -> str:
    """Broken between words; options and names stay whole."""
    return textwrap.fill(sentence, WIDTH, break_long_words=False, break_on_hyphens=False)


def _foot(judged: Judged) -> list[str]:
    ranking = judged.ranking
    if ranking is None or not (ranking.between or ranking.against):
        return []
    foot = [REGRET] if ranking.against else []
    foot += [INTERVALS if len(ranking.archs) >= FEWEST_SURE else NO_INTERVALS]
    if ranking.ceiling is not None:
        foot.append(ONE_TRAINING)
    return foot


def heading(judged: Judged) -> str:
    against = f", against {judged.truth}" if judged.truth else ""
    return f"{counted(len(judged.archs), 'architecture')}, {judged.what}{against}"


def says(judged: Judged) -> list[str]:
    """What follows: who agrees best with the truth, who is told from it, and what had to be left out."""
    ranking = judged.ranking
    found = [] if ranking is None else _closest(judged, ranking)
    return [*found, *(f"Note: {note}." for note in judged.notes)]


def _closest(judged: Judged, ranking: Ranking) -> list[str]:
    """Who agrees best with the truth and who is told from it; nothing that an interval does not bear."""
    defined = {name: found.kendall for name, found in ranking.against.items() if found.kendall.is_defined}
    if not ranking.against:
        return []
    if not defined:
        return ["No judge ranks these architectures: each, or the truth, says the same of all."]
    best = max(defined, key=lambda name: defined[name].value)
    if not defined[best].is_sure:
        return [
            f"{counted(len(ranking.archs), 'architecture')}: who is closest to the truth is not said of "
            f"fewer than {FEWEST_SURE}."
        ]
    alike = [name for name in defined if name != best and _orders_alike(judged, best, name)]
    first = f"{best} and {', '.join(alike)}, which order them alike" if alike else best
    found = [f"Closest to the truth: {first}, tau {_signed(defined[best])}."]
    if defined[best].high < 0:
        found = [f"Every judge ranks against the truth, {best} the least: tau {_signed(defined[best])}."]
    elif defined[best].is_noise:
        found = [
            f"No judge agrees with the truth beyond noise; the highest: {best}, {_signed(defined[best])}."
        ]
    below: list[str] = []
    noise: list[str] = []
    for name in defined:
        if name != best and name not in alike:
            difference = _from(judged, best, name)
            by = f"lower by {difference.value:.3f} [{difference.low:.3f}, {difference.high:.3f}]"
            (noise if difference.is_noise else below).append(f"{name} ({by})")
    n = len(defined) * (len(defined) - 1) // 2
    adjusted = f"; intervals adjusted for {n} comparisons" if n > 1 else ""
    if below:
        found.append(f"Below it beyond noise: {', '.join(below)}{adjusted}.")
    if noise:
        whom = f"these {len(ranking.archs):,} architectures"
        found.append(f"Not told from it by {whom}: {', '.join(noise)}.")
    return found


def _orders_alike(judged: Judged, best: str, name: str) -> bool:
    """Whether no resample of the architectures tells the two apart."""
    found = _from(judged, best, name)
    return found.low == found.high == 0


def _from(judged: Judged, best: str, name: str) -> Figure:
    """tau of the best minus that of another."""
    assert judged.ranking is not None
    differences = judged.ranking.differences
    if (best, name) in differences:
        return differences[best, name]
    other = differences[name, best]
    return Figure(-other.value, -other.high, -other.low)


def _tables(judged: Judged) -> list[Table]:
    ranking = judged.ranking
    found: list[Table] = []
    if ranking is not None and ranking.against:
        rows = [
            [
                judge.name,
                _interval(ranking.against[judge.name].kendall),
                _interval(ranking.against[judge.name].spearman),
                _perhaps(ranking.against[judge.name].best_tenth),
                *(_regret(ranking.against[judge.name].regret[k]) for k in TOP_K),
                f"{judge.seconds:.3g}",
            ]
            for judge in judged.judges
        ]
        if ranking.ceiling is not None:
            name = "one training"
            ceiling = ranking.ceiling
            rows.append([name, _interval(ceiling.kendall), "", _perhaps(ceiling.best_tenth), "", "", ""])
        regrets = [f"regret {k}" for k in TOP_K]
        found.append((["judge", "tau-b", "Spearman", "best tenth, tau-b", *regrets, "seconds"], rows))
    else:
        found.append((["judge", "seconds"], [[j.name, f"{j.seconds:.3g}"] for j in judged.judges]))
    if ranking is not None and ranking.between:
        found.append((["judge", "and judge", "tau-b", "Spearman"], _between(ranking.between)))
    found.append(_highest(judged))
    return found


def _highest(judged: Judged) -> Table:
    """The first architectures of the first judge, with what others say of them."""
    judges = judged.judges[:MOST_SHOWN]
    headers = ["architecture", *(judge.name for judge in judges), *(["truth"] if judged.true else [])]
    rows = []
    for arch in judged.archs[:HIGHEST]:
        true = [_value(judged.true[arch])] if judged.true else []
        rows.append([arch, *(_value(judge.values[arch]) for judge in judges), *true])
    return headers, rows


def _value(value: float) -> str:
    """Counts in full, other figures to four digits."""
    return f"{value:,.0f}" if value == int(value) and abs(value) >= 1000 else f"{value:.4g}"


def _between(between: "dict[tuple[str, str], Agreement]") -> list[list[str]]:
    return [[a, b, _interval(f.kendall), _interval(f.spearman)] for (a, b), f in between.items()]


def _regret(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _interval(figure: Figure) -> str:
    if not figure.is_defined:
        return "undefined"
    if not figure.is_sure:
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"


def _perhaps(figure: Figure | None) -> str:
    return "too few" if figure is None else _interval(figure)


def _signed(figure: Figure) -> str:
    """Of a figure with an interval."""
    return f"{figure.value:+.3f} [{figure.low:+.3f}, {figure.high:+.3f}]"


def _names(found: Table) -> int:
    """Columns that hold names."""
    return max(1, sum(1 for header in found[0] if "judge" in header))


def aligned(headers: Sequence[str], rows: Sequence[Sequence[str]], names: int) -> str:
    """Columns beside each other, the first `names` to the left, figures to the right."""
    lines = [list(headers), *map(list, rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(headers))]
    place: list[Callable[[str, int], str]] = [
        str.ljust if at < names else str.rjust for at in range(len(headers))
    ]
    return "\n".join(
        "  ".join(put(text, width) for put, text, width in zip(place, line, widths, strict=True)).rstrip()
        for line in lines
    )
