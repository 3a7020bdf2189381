"""Which setting to use: the cheapest that is not worse than the best by more than a tolerance.

A setting is estimator, momentum, batch size and samples; it must have been measured on every
architecture. The best is the one of highest mean eval, and the shortfall of another is taken on the
architecture where it is largest: its figure, and the upper end of its paired 95 % interval.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean

from bnrecal.report.analysis.durations import spoken
from bnrecal.report.analysis.finding import WARM
from bnrecal.report.analysis.findings import time_name
from bnrecal.report.analysis.sections import METRIC_NAMES, Section
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.store.store import Row
from bnrecal.study.axes import rule

TOLERANCE = 0.003
MANY = 1000  # architectures a search may calibrate


@dataclass(frozen=True)
class Setting:
    """Where in the grid, and the cells there by architecture."""

    estimator: str
    momentum: float | None
    batch_size: int
    n_samples: int
    rows: dict[str, Row]

    @property
    def name(self) -> str:
        how = rule(self.estimator, self.momentum)
        return f"{how}, batches of {self.batch_size:,}, {self.n_samples:,} images"

    @property
    def is_cold(self) -> bool:
        """Whether an exponential average still holds more of its start than WARM: its eval may be luck."""
        if self.estimator != "ema" or self.momentum is None:
            return False
        n_updates = -(-self.n_samples // self.batch_size)
        return bool((1 - self.momentum) ** n_updates > WARM)

    @property
    def mean_eval(self) -> float:
        return float(mean(row["eval"] for row in self.rows.values()))

    def seconds(self, name: str) -> float:
        return float(mean(row[name] for row in self.rows.values()))


@dataclass(frozen=True)
class Candidate:
    """A setting and how far it may fall short of the best, on the architecture where that is most."""

    setting: Setting
    shortfall: float
    shortfall_arch: str
    bound: float | None  # upper end of the interval of the shortfall, largest over architectures
    bound_arch: str
    seconds: float


@dataclass(frozen=True)
class Advice:
    """For one task, data set and metric."""

    task: str
    metric: str
    tolerance: float
    best: Setting
    chosen: Candidate
    shown: bool  # by intervals, not only as measured
    cost: str  # the column of seconds
    n_settings: int
    n_archs: int
    dearest: float  # seconds
    estimators: tuple[str, ...]
    n_cold: int  # settings left out because their average is cold

    def sentences(self) -> list[str]:
        """What to use, why one may, and what it costs."""
        chosen, best = self.chosen, self.best
        many = self.n_archs > 1
        each = f"on each of the {self.n_archs} architectures" if many else f"on {chosen.shortfall_arch}"
        if chosen.setting is best:
            comes = "is certain (95 %) to come" if self.shown else "comes"
            said = [
                f"Use {best.name}, of the highest mean eval: no cheaper setting of the {self.n_settings} "
                f"measured {comes} within {self.tolerance:g} of it {each}."
            ]
        else:
            said = [f"Use {chosen.setting.name}.", self._why(each)]
        what = "update pass" if self.cost == "recal_s" else "everything"
        said.append(
            f"Cost: {spoken(chosen.seconds)} an architecture ({what}{', mean' if many else ''}), "
            f"{spoken(MANY * chosen.seconds)} for {MANY:,}; the dearest setting measured takes "
            f"{self.dearest / chosen.seconds:.1f} times as long."
        )
        if self.n_cold:
            said.append(
                f"Left out: {self.n_cold} setting{'s' * (self.n_cold > 1)} whose exponential average still "
                f"holds more than {WARM:.1%} of its start; a high eval there would be luck."
            )
        if len(self.estimators) == 1:
            said.append(f"Only {self.estimators[0]} was measured: bnrecal advise tries other estimators.")
        return said

    def _why(self, each: str) -> str:
        chosen = self.chosen
        short = f"{max(0.0, chosen.shortfall):.4f}"
        at_most = f" at most ({chosen.shortfall_arch})" if self.n_archs > 1 else ""
        reference = f"the highest mean eval measured ({self.best.name})"
        if self.shown:
            return (
                f"It falls short of {reference} by {short}{at_most}; with 95 % confidence by no more than "
                f"{max(0.0, chosen.bound or 0.0):.4f}, within the tolerance of {self.tolerance:g} {each}."
            )
        if chosen.bound is None:
            return (
                f"As measured it falls short of {reference} by {short}{at_most}, within the tolerance of "
                f"{self.tolerance:g} {each}; there is no per-image evidence to say how certain that is."
            )
        return (
            f"As measured it falls short of {reference} by {short}{at_most}, within the tolerance of "
            f"{self.tolerance:g} {each}; that is not certain: the 95 % interval reaches {chosen.bound:.4f} "
            f"({chosen.bound_arch})."
        )


def advice_of(
    sections: Iterable[Section], uncertainty: Uncertainty, tolerance: float = TOLERANCE
) -> list[Advice]:
    """One for each task, data set and metric that has at least two complete settings with times."""
    together: dict[tuple[str, str | None, str], list[Section]] = defaultdict(list)
    for section in sections:
        if section.rows:
            together[section.task, section.data_digest, section.metric].append(section)
    found = [_advice(group, uncertainty, tolerance) for group in together.values()]
    return [advice for advice in found if advice]


def _advice(sections: Sequence[Section], uncertainty: Uncertainty, tolerance: float) -> Advice | None:
    archs = {arch for section in sections for arch in section.archs}
    names = {time_name(section) for section in sections}
    cost = "recal_s" if names == {"recal_s"} else "total_s"
    settings = [
        Setting(section.estimator, section.momentum, *at, rows)
        for section in sections
        for at in section.settings
        if set(rows := section.at(*at)) == archs and all(row[cost] is not None for row in rows.values())
    ]
    warm = [setting for setting in settings if not setting.is_cold]
    n_cold = len(settings) - len(warm) if len(warm) > 1 else 0
    settings = warm if len(warm) > 1 else settings
    if len(settings) < 2:
        return None
    best = max(settings, key=lambda setting: setting.mean_eval)
    candidates = [_candidate(setting, best, uncertainty, cost) for setting in settings]
    known = all(c.bound is not None for c in candidates)
    shown = [c for c in candidates if known and c.bound is not None and c.bound <= tolerance]
    measured = [c for c in candidates if c.shortfall <= tolerance]
    chosen = min(shown or measured, key=lambda c: (c.seconds, -c.setting.mean_eval))
    first = sections[0]
    return Advice(
        first.task,
        METRIC_NAMES.get(first.metric, first.metric),
        tolerance,
        best,
        chosen,
        bool(shown),
        cost,
        len(settings),
        len(archs),
        max(c.seconds for c in candidates),
        tuple(dict.fromkeys(section.estimator for section in sections)),
        n_cold,
    )


def _candidate(setting: Setting, best: Setting, uncertainty: Uncertainty, cost: str) -> Candidate:
    short = {arch: best.rows[arch]["eval"] - row["eval"] for arch, row in setting.rows.items()}
    bounds = {}
    for arch, row in setting.rows.items():
        interval = uncertainty.difference(best.rows[arch], row)
        if interval is not None:
            bounds[arch] = interval[1]
    worst = max(short, key=lambda arch: short[arch])
    loosest = max(bounds, key=lambda arch: bounds[arch], default=worst)
    bound = bounds[loosest] if len(bounds) == len(short) else None
    return Candidate(setting, short[worst], worst, bound, loosest, setting.seconds(cost))
