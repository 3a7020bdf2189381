"""A search's report: text, Markdown, JSON, and its two figures."""

import dataclasses
import json
from typing import TYPE_CHECKING

from bnrecal.report.analysis.searched import Candidate, Searched
from bnrecal.report.formats.judged import Table, aligned, filled
from bnrecal.report.formats.markdown import escape, table
from bnrecal.report.formats.picture import Panel, Picture
from bnrecal.report.formats.series import COLOURS, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 10  # architectures


def rendered(found: Searched, layout: str) -> str:
    """As "text", "md" or "json"."""
    if layout == "json":
        return _json(found)
    if layout == "md":
        parts = ["## Search", escape(found.says)]
        parts += [
            table(list(map(escape, headers)), [[escape(name), *figures] for name, *figures in rows])
            for headers, rows in _tables(found)
        ]
        parts += [f"Note: {escape(note)}." for note in found.notes]
    else:
        parts = [filled(found.says), *(aligned(headers, rows, 1) for headers, rows in _tables(found))]
        parts += [filled(f"Note: {note}.") for note in found.notes]
    return "\n\n".join(parts) + "\n"


def pictures(found: Searched) -> list[Picture]:
    """Progress by generation (of an evolution), and score against FLOPs."""
    made = [Picture("pareto", "pareto", "Score against FLOPs; line: whom nobody beats.", (_pareto(found),))]
    if len(found.progress) > 1:
        caption = "The best so far and the median of each generation."
        made.insert(0, Picture("progress", "progress", caption, (_progress(found),)))
    return made


def _tables(found: Searched) -> list[Table]:
    best = [
        [one.arch, _score(one.score), f"{one.flops:,}", f"{one.params:,}", str(one.generation)]
        for one in found.best[:SHOWN]
    ]
    headers = ["architecture", found.search.judge, "FLOPs", "parameters", "generation"]
    if found.search.method == "exact":  # which knows no generations
        best, headers = [row[:-1] for row in best], headers[:-1]
    costs = [[name, f"{n:,}", f"{seconds:.3g}"] for name, (n, seconds) in found.costs.items()]
    return [
        (headers, best),
        (["judge", "architectures", "seconds"], costs),
    ]


def _score(score: float) -> str:
    """A count in full, other figures to six digits."""
    return f"{score:,.0f}" if score == int(score) and abs(score) >= 1000 else f"{score:.6g}"


def _json(found: Searched) -> str:
    search = found.search
    whole = {
        "judge": search.judge,
        "method": search.method,
        "bounds": dict(search.bounds),
        "forbidden": list(search.forbidden),
        "settings": dict(search.settings),
        "best": [dataclasses.asdict(one) for one in found.best],
        "front": [dataclasses.asdict(one) for one in found.front],
        "progress": [{"best": best, "median": median} for best, median in found.progress],
        "costs": {name: {"architectures": n, "seconds": s} for name, (n, s) in found.costs.items()},
        "failed": found.n_failed,
        "notes": found.notes,
    }
    return json.dumps(whole, indent=1) + "\n"


def _progress(found: Searched) -> Panel:
    best, median = zip(*found.progress, strict=True)
    at = range(1, len(best) + 1)

    def draw(axes: "Axes") -> None:
        from matplotlib.ticker import MaxNLocator

        axes.plot(at, best, color=COLOURS[0], marker=".", label="best so far")
        axes.plot(at, median, color=MUTED, marker=".", label="median")
        axes.set_xlabel("generation")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(found.search.judge)
        axes.legend(frameon=False)

    alt = f"The best rises from {best[0]:.6g} to {best[-1]:.6g} in {len(best)} generations."
    return Panel("Progress", alt, draw)


def _pareto(found: Searched) -> Panel:
    front = found.front

    def draw(axes: "Axes") -> None:
        axes.scatter(*_points(found.judged), s=8, color=MUTED, linewidths=0)
        axes.step(*_points(front), where="post", color=COLOURS[0], marker=".", label="beaten by none")
        bound = found.search.bounds.get("flops")
        if bound is not None:
            axes.axvline(bound / 1e6, color=MUTED, linestyle=":", label="bound")
        axes.legend(frameon=False)
        axes.set_xlabel("million multiply-accumulates an image")
        axes.set_ylabel(found.search.judge)

    alt = f"{len(found.judged):,} architectures, of which {len(front)} are beaten by none."
    return Panel("Score against FLOPs", alt, draw)


def _points(of: "list[Candidate] | tuple[Candidate, ...]") -> tuple[list[float], list[float]]:
    return [one.flops / 1e6 for one in of], [one.score for one in of]
