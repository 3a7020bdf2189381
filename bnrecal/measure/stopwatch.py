"""Seconds on a device, summed by the part of the work they went into."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from bnrecal.host.device import now_s


class Stopwatch:
    """`seconds[part]` is what all blocks under `part` took so far; 0 for a part that had none."""

    def __init__(self, device: torch.device, seconds: Mapping[str, float] | None = None) -> None:
        self.device = device
        self.seconds = defaultdict[str, float](float, seconds or {})

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A block whose time counts for this part, unless it raises."""
        started = now_s(self.device)
        yield
        self.seconds[name] += now_s(self.device) - started

    def move(self, seconds: float, came_from: str, to: str) -> None:
        """Count seconds for another part than the one whose block they passed in."""
        self.seconds[came_from] -= seconds
        self.seconds[to] += seconds

    def copy(self) -> "Stopwatch":
        """Another that goes on from what this one shows."""
        return Stopwatch(self.device, self.seconds)
