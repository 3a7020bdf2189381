"""A figure as data: what a panel shows, in words and as a function that draws it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Panel:
    """One pair of axes; `alt` says in words what it shows."""

    title: str
    alt: str
    draw: Callable[["Axes"], None]
    inches: tuple[float, float] | None = None  # None: as canvas.py has it


@dataclass(frozen=True)
class Picture:
    """Panels that belong together: one SVG and one PNG file of this name."""

    name: str
    topic: str
    caption: str
    panels: tuple[Panel, ...]
