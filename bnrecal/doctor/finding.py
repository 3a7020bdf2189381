"""What a check says, and all of it together."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

# wrong: mend it; note: worth knowing, nothing wrong by itself; skipped: could not be looked at
Level = Literal["fine", "note", "wrong", "skipped"]


@dataclass(frozen=True)
class Finding:
    """One check's answer: one line of evidence, and what to do about it where something is wrong.

    >>> Finding("eps", "note", "eps 0.1 is more than half of the variance in 1 of 2 BatchNorms").level
    'note'
    """

    check: str
    level: Level
    evidence: str
    remedy: str = ""
    layers: tuple[str, ...] = ()  # all that are concerned, the worst first


@dataclass(frozen=True)
class Diagnosis:
    """Every check's finding, in the order of the table of checks.

    >>> found = Diagnosis((Finding("momentum", "wrong", "momentum is 0", "set 0.1"),), 64, 16)
    >>> print(found)
    wrong   momentum: momentum is 0
            -> set 0.1
    >>> [finding.check for finding in found.wrong], found["momentum"].remedy
    (['momentum'], 'set 0.1')
    """

    findings: tuple[Finding, ...]
    n_images: int
    batch_size: int

    @property
    def wrong(self) -> tuple[Finding, ...]:
        return self.of("wrong")

    def of(self, level: Level) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.level == level)

    def __getitem__(self, check: str) -> Finding:
        """The finding of the check of this name; raises KeyError."""
        for finding in self.findings:
            if finding.check == check:
                return finding
        raise KeyError(check)

    def __str__(self) -> str:
        lines = []
        for finding in self.findings:
            lines.append(f"{finding.level:7} {finding.check}: {finding.evidence}")
            if finding.remedy:
                lines.append(f"{'':7} -> {finding.remedy}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        return {
            "n_images": self.n_images,
            "batch_size": self.batch_size,
            "n_wrong": len(self.wrong),
            "findings": [asdict(finding) for finding in self.findings],
        }


RECALIBRATE = "re-estimate them: bnrecal recalibrate, or bnrecal.recalibrate(model, batches)"


def answer(level: Level, evidence: str, remedy: str = "", layers: Iterable[str] = ()) -> Finding:
    return Finding("", level, evidence, remedy, tuple(layers))


def named(layers: Iterable[str], total: int) -> str:
    """ "2 of 20 BatchNorms (layer1.0.bn1, layer1.0.bn2)", at most three by name."""
    layers = [name or "the model itself" for name in layers]
    shown = ", ".join(layers[:3]) + (", ..." if len(layers) > 3 else "")
    return f"{len(layers)} of {total} BatchNorms ({shown})"
