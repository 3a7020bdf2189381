"""Pictures as files (SVG and PNG) and as SVG to stand in a page."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bnrecal.errors import BnrecalError
from bnrecal.report.formats.picture import Panel, Picture
from bnrecal.report.formats.series import COLOURS, GRID, INK, MUTED, PAPER

PANEL_INCHES = (4.6, 3.5)
ABREAST = 3  # panels in a row of a file
DPI = 160


def write_pictures(pictures: Sequence[Picture], folder: Path) -> list[Path]:
    """NAME.svg and NAME.png for each; the same rows give the same SVG. Raises BnrecalError."""
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            with _style("path"):
                figure = _figure(picture.panels, with_titles=len(picture.panels) > 1)
                for kind, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
                    path = folder / f"{picture.name}.{kind}"
                    figure.savefig(path, metadata=metadata, dpi=DPI, facecolor="white")
                    written.append(path)
    except OSError as error:
        raise BnrecalError(f"--figures: cannot write to {folder}: {error.strerror}") from None
    return written


def inline_svg(panel: Panel, name: str) -> str:
    """The panel as an <svg> element: colours from the page's variables, every id begins with `name`."""
    buffer = io.StringIO()
    with _style("none"):
        figure = _figure([panel], with_titles=False)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.S)  # it would rule the page
    text = re.sub(r" font-family: [^;\"]*;", "", text)
    text = re.sub(r'^<svg[^>]*viewBox="([^"]*)"[^>]*>', _opening, text)
    for variable, colour in (
        ("ink", INK),
        ("muted", MUTED),
        ("grid", GRID),
        ("paper", PAPER),
        *enumerate(COLOURS),
    ):
        text = text.replace(colour, f"var(--{variable if isinstance(variable, str) else f'c{variable}'})")
    return re.sub(r"\n\s*", "\n", text)


def _opening(found: re.Match[str]) -> str:
    return f'<svg viewBox="{found[1]}" aria-hidden="true" focusable="false">'


def _figure(panels: Sequence[Panel], with_titles: bool) -> Any:
    from matplotlib.figure import Figure

    columns = min(ABREAST, len(panels))
    rows = -(-len(panels) // columns)
    each = [panel.inches or PANEL_INCHES for panel in panels]
    size = (max(width for width, _ in each) * columns, max(height for _, height in each) * rows)
    figure = Figure(figsize=size, layout="constrained")
    for k, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, k + 1)
        panel.draw(axes)
        if with_titles:
            legend = axes.get_legend()
            if legend is not None and legend.get_alignment() == "left":  # above the axes, where titles stand
                legend.set_title(panel.title)
                legend.get_title().set_fontsize(10)
            else:
                axes.set_title(panel.title, fontsize=10, color=INK)
    return figure


@contextmanager
def _style(fonttype: str) -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context(
        {
            "svg.hashsalt": "bnrecal",  # the same file every time
            "svg.fonttype": fonttype,
            "font.size": 10,
            "axes.edgecolor": MUTED,
            "axes.labelcolor": INK,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.color": GRID,
            "grid.linewidth": 0.6,
            "text.color": INK,
            "text.parse_math": False,  # a name from the data is text, never a formula
            "xtick.color": MUTED,
            "ytick.color": MUTED,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
        }
    ):
        yield
