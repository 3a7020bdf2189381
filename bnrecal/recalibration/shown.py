"""What a recalibration did, for people: a screen of text, and a table for notebooks.

Widths and line counts are part of the contract: at most 80 columns and 20 lines of text, however large
the network.
"""

import html
import math
import textwrap
from collections.abc import Sequence
from typing import Protocol

from bnrecal.recalibration.shift import Shift

WIDTH = 80
MOST_LAYERS = 10  # of a table that has to fit a screen
MOST_REASONS = 2
UNKNOWN = "from NaN, inf or a negative variance"
LEGEND = (
    "mean: distance in old standard deviations, over the channels of a layer;",
    "variance: new by old, geometric mean over the channels, lowest and highest.",
)


class Told(Protocol):
    """What is shown of a recalibration (result.py)."""

    @property
    def n_samples(self) -> int: ...
    @property
    def n_batches(self) -> int: ...
    @property
    def n_passes(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def layers(self) -> tuple[str, ...]: ...
    @property
    def left_alone(self) -> dict[str, str]: ...
    @property
    def shifts(self) -> list[Shift]: ...


def as_text(report: Told) -> str:
    """What was read, how far each layer moved, and what was left alone."""
    lines = [f"Recalibration: {_read(report)}", _counted(report)]
    if report.shifts:
        lines += table(report.shifts, MOST_LAYERS)
    return "\n".join(part for line in lines for part in _wrapped(line))


def as_html(report: Told) -> str:
    """The same as an HTML fragment, with a row for every layer; all names are escaped."""
    rows = "".join(
        "<tr>"
        + "".join(f"<td style='text-align:{'left' if i == 0 else 'right'}'>{cell}</td>" for i, cell in cells)
        + "</tr>"
        for cells in (enumerate(map(html.escape, _cells(shift))) for shift in report.shifts)
    )
    names = ("layer", "channels", "mean moved by, rms", "worst", "variance by, typical", "lowest", "highest")
    head = "".join(f"<th>{name}</th>" for name in names)
    said = "<br>".join(html.escape(line) for line in (_read(report), _counted(report)))
    legend = "<br>".join(map(html.escape, LEGEND))
    return (
        f"<div><p>{said}</p><div style='max-height:24em;overflow:auto'><table>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div><p>{legend}</p></div>"
    )


def table(shifts: Sequence[Shift], most: int | None, hint: str = "") -> list[str]:
    """Lines of at most 80 columns, the layers in the order given; `hint` says how to see the rest."""
    rows = [f"{'':40}  {'mean moved by':>13}  {'variance by':>14}"]
    rows.append(f"{'layer':34} {'chan.':>5}  {'rms':>6} {'worst':>6}  {'typical':>7} {'range':>12}")
    for shift in shifts[:most]:
        name, n_channels, mean, worst, typical, lowest, highest = _cells(shift)
        name = name if len(name) <= 34 else f"...{name[-31:]}"
        finite = math.isfinite(shift.size)
        tail = f"{mean:>6} {worst:>6}  {typical:>7} {f'{lowest}-{highest}':>12}" if finite else UNKNOWN
        rows.append(f"{name:34} {n_channels:>5}  {tail}")
    if most is not None and len(shifts) > most:
        rows.append(f"and {len(shifts) - most} layers that changed less{hint}")
    return [*rows, "", *LEGEND]


def _cells(shift: Shift) -> tuple[str, ...]:
    """A layer's name and figures; where they are no numbers, the reason and nothing."""
    name = shift.layer or "the model itself"
    if not math.isfinite(shift.size):
        return name, str(shift.n_channels), UNKNOWN, "", "", "", ""
    figures = (shift.mean, shift.mean_worst, shift.var_ratio, shift.var_lowest, shift.var_highest)
    return name, str(shift.n_channels), *map(_short, figures)


def _read(report: Told) -> str:
    passes = "1 pass" if report.n_passes == 1 else f"{report.n_passes} passes"
    return (
        f"{report.n_samples:,} images in {report.n_batches:,} {_plural('batch', report.n_batches)}, "
        f"{passes}, {report.seconds:.3g} s"
    )


def _counted(report: Told) -> str:
    """How many layers were re-estimated, and the reasons why others were not."""
    n = len(report.layers)
    by_reason = _by_reason(report.left_alone)
    reasons = [
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''} ({reason})"
        for reason, names in list(by_reason.items())[:MOST_REASONS]
    ]
    if len(by_reason) > MOST_REASONS:
        reasons.append(f"{len(by_reason) - MOST_REASONS} other reasons in left_alone")
    left = f"; left alone: {'; '.join(reasons)}" if reasons else ""
    return f"{n or 'no'} {_plural('layer', n)} re-estimated{left}"


def alone(left: dict[str, str]) -> list[str]:
    """One line for each reason: the layers that were left alone for it, at most three by name."""
    return [
        f"left alone: {len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}): {reason}"
        for reason, names in _by_reason(left).items()
    ]


def _by_reason(left: dict[str, str]) -> dict[str, list[str]]:
    """The layers that were left alone, together by their reason."""
    found: dict[str, list[str]] = {}
    for name, reason in left.items():
        found.setdefault(reason, []).append(name or "the model itself")
    return found


def _wrapped(line: str) -> list[str]:
    if len(line) <= WIDTH:
        return [line]
    return textwrap.wrap(line, WIDTH, subsequent_indent="    ", max_lines=3, placeholder=" ...")


def _plural(word: str, n: int) -> str:
    return word if n == 1 else f"{word}es" if word.endswith("ch") else f"{word}s"


def _short(value: float) -> str:
    """Three significant digits, at most five characters below a million."""
    if value >= 1e5 or 0 < value < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
