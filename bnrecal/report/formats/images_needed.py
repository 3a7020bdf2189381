"""The table of images needed, in Markdown: rules down, batch sizes across."""

from collections.abc import Sequence
from pathlib import Path

from bnrecal.errors import BnrecalError
from bnrecal.report.analysis.images_needed import ImagesNeeded, images_needed
from bnrecal.report.analysis.summary import Report
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.report.formats.markdown import escape, table

NOT_RUN, NOT_REACHED = "not run", "not reached"


def to_images_needed(report: Report) -> str:
    """A sentence and a table for each task. Raises BnrecalError where there are too few counts for any."""
    found = images_needed(report.sections, report.tolerance)
    if not found:
        raise BnrecalError("--format images-needed: no rule was measured with two counts of images or more")
    return "\n".join(f"{escape(sentence(one, report.folders))}\n\n{needed_table(one)}\n" for one in found)


def sentence(found: ImagesNeeded, folders: Sequence[Path] = ()) -> str:
    """What the table says, with its reference; with evidence in `folders`, how certain that is."""
    uncertainty = Uncertainty(folders, found.reference_rows.values())
    halves = {arch: uncertainty.half_width(row) for arch, row in found.reference_rows.items()}
    evals = ", ".join(
        f"{arch} {value:.4f}" + (f" ± {half:.4f}" if (half := halves[arch]) is not None else "")
        for arch, value in found.reference.items()
    )
    if any(half is not None for half in halves.values()):
        evals += "; 95 % over evaluation images, the same for all settings, so that differences are surer"
    on = "" if len(found.reference) == 1 else f", on all {len(found.reference)} architectures"
    return (
        f"Images needed until eval {found.metric_name} is within {found.tolerance:g} of "
        f"{found.reference_rule} over {found.reference_images:,} images ({evals}), and stays there{on}:"
    )


def needed_table(found: ImagesNeeded) -> str:
    """Markdown; a rule that was not run at a batch size says so, as does one that no count suffices for."""
    rows = [[escape(rule), *(_cell(found, rule, size) for size in found.batch_sizes)] for rule in found.rules]
    return table(["", *(f"bs {size}" for size in found.batch_sizes)], rows)


def _cell(found: ImagesNeeded, rule: str, size: int) -> str:
    if (rule, size) not in found.needed:
        return NOT_RUN
    needed = found.needed[rule, size]
    return NOT_REACHED if needed is None else f"{needed:,}"
