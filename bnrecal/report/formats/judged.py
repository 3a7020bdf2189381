"""Judges of architectures beside each other and the truth: text, Markdown, JSON."""

import dataclasses
import json
import textwrap
from collections.abc import Callable, Sequence

from bnrecal.report.analysis.judged import Judged
from bnrecal.report.analysis.wording import counted
from bnrecal.report.formats.markdown import escape, table
from bnrecal.search.ranking import TOP_K, Agreement, Figure, Ranking

FORMATS = ("text", "json", "md")
HIGHEST = 10  # architectures shown
WIDTH = 80  # of sentences
MOST_SHOWN = 6  # judges in the table of these
INTERVALS = (
    "In brackets 95 % intervals, a bootstrap over architectures: how a figure would vary with others of the "
    "same space, not with another training."
)
Table = tuple[list[str], list[list[str]]]  # headers, rows


def rendered(judged: Judged, layout: str) -> str:
    """In one of FORMATS."""
    return {"text": to_text, "json": to_json, "md": to_markdown}[layout](judged)


def to_text(judged: Judged) -> str:
    parts = [
        heading(judged),
        *(aligned(*found, _names(found)) for found in _tables(judged)),
        *map(filled, says(judged)),
        *map(filled, _foot(judged)),
    ]
    return "\n\n".join(parts) + "\n"


def to_markdown(judged: Judged) -> str:
    parts = [f"## {escape(heading(judged))}"]
    parts += [table([escape(h) for h in headers], rows) for headers, rows in _tables(judged)]
    return "\n\n".join([*parts, *map(escape, says(judged)), *_foot(judged)]) + "\n"


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
    return json.dumps(found, indent=1) + "\n"


def filled(sentence: str) -> str:
    """Broken between words; options and names stay whole."""
    return textwrap.fill(sentence, WIDTH, break_long_words=False, break_on_hyphens=False)


def _foot(judged: Judged) -> list[str]:
    return [] if judged.ranking is None else [INTERVALS]


def heading(judged: Judged) -> str:
    against = f", against {judged.truth}" if judged.truth else ""
    return f"{counted(len(judged.archs), 'architecture')}, {judged.what}{against}"


def says(judged: Judged) -> list[str]:
    """What follows: who agrees best with the truth, who is told from it, and what had to be left out."""
    found = []
    against = judged.ranking.against if judged.ranking else {}
    if against:
        best = max(against, key=lambda name: against[name].kendall.value)
        found.append(f"Closest to the truth: {best}, tau {_signed(against[best].kendall)}.")
        below: list[str] = []
        noise: list[str] = []
        for name in against:
            if name != best:
                difference = _from(judged, best, name)
                (noise if difference.is_noise else below).append(f"{name} ({_signed(difference)})")
        n = len(judged.ranking.differences) if judged.ranking else 0
        adjusted = f"; intervals adjusted for {n} comparisons" if n > 1 else ""
        if below:
            found.append(f"Below it beyond noise, by tau: {', '.join(below)}{adjusted}.")
        if noise:
            found.append(f"Not told from it, the difference is noise: {', '.join(noise)}.")
    return [*found, *(f"Note: {note}." for note in judged.notes)]


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
                *(f"{ranking.against[judge.name].regret[k]:.4g}" for k in TOP_K),
                f"{judge.seconds:.3g}",
            ]
            for judge in judged.judges
        ]
        if ranking.ceiling is not None:
            name = "one training by another"
            ceiling = ranking.ceiling
            rows.append([name, _interval(ceiling.kendall), "", _perhaps(ceiling.best_tenth), "", "", ""])
        regrets = [f"regret of the best {k}" if k > 1 else "regret of the first" for k in TOP_K]
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


def _interval(figure: Figure) -> str:
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"


def _perhaps(figure: Figure | None) -> str:
    return "too few" if figure is None else _interval(figure)


def _signed(figure: Figure) -> str:
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
