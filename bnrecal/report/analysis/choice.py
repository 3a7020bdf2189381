"""Which setting to use, decided in one place for `report` and `advise`; pure.

A setting is estimator, momentum, batch size and samples, measured on every architecture. The rule:

1. An exponential average that still holds more than WARM of its start is left out.
2. An architecture on which even its highest setting is shown worse than the network as it stands
   (`stored`) is to be left alone; so is a setting that is shown worse than `stored` on another one, while
   there are settings that are not.
3. The best is the setting of highest mean eval. Chosen is the cheapest that is not shown worse than it by
   more than the tolerance, on any architecture.

Shown worse means a paired 95 % interval without 0 (uncertainty.py); by more than the tolerance, the
difference as measured. Without evidence the difference as measured decides alone. The cheapest reads the
fewest images, the same on every machine; of those the one of highest mean eval. `exact`, which walks its
images several times, is weighed against the others by seconds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean

from bnrecal.report.analysis.finding import WARM, start_left
from bnrecal.report.analysis.sections import Section
from bnrecal.report.analysis.uncertainty import Interval, Uncertainty
from bnrecal.store.store import Row
from bnrecal.study.axes import rule, short_rule
from bnrecal.study.cells import n_updates


@dataclass(frozen=True, eq=False)
class Setting:
    """Where in the grid, and the cells there by architecture."""

    estimator: str
    momentum: float | None
    batch_size: int
    n_samples: int
    rows: Mapping[str, Row]

    @property
    def name(self) -> str:
        how = rule(self.estimator, self.momentum)
        return f"{how}, batches of {self.batch_size:,}, {self.n_samples:,} images"

    @property
    def short_name(self) -> str:
        how = short_rule({"estimator": self.estimator, "momentum": self.momentum})
        return f"{how}, bs {self.batch_size:,}, {self.n_samples:,} images"

    @property
    def is_cold(self) -> bool:
        """Whether an exponential average still holds more of its start than WARM: its eval may be luck."""
        if self.estimator != "ema" or self.momentum is None:
            return False
        return start_left(self.momentum, n_updates(self.n_samples, self.batch_size)) > WARM

    @cached_property
    def mean_eval(self) -> float:
        return self.mean_over(self.rows)

    def mean_over(self, archs: Iterable[str]) -> float:
        return float(mean(self.rows[arch]["eval"] for arch in archs))

    def seconds(self, name: str) -> float:
        return float(mean(row[name] for row in self.rows.values()))


@dataclass(frozen=True)
class Gap:
    """How much higher one eval is than another on the same images of one architecture."""

    arch: str
    eval: float
    interval: Interval | None  # paired, 95 %; None without evidence

    @property
    def half_width(self) -> float | None:
        return None if self.interval is None else (self.interval[1] - self.interval[0]) / 2

    def shown_over(self, tolerance: float) -> bool:
        """Higher by more than the tolerance, and beyond noise where that is known."""
        return self.eval > tolerance and (self.interval is None or self.interval[0] > 0)

    def shown_within(self, tolerance: float) -> bool:
        """Higher by no more than the tolerance, with 95 % confidence."""
        return self.interval is not None and self.interval[1] <= tolerance


def gap(higher: Row, lower: Row, arch: str, uncertainty: Uncertainty) -> Gap:
    return Gap(arch, higher["eval"] - lower["eval"], uncertainty.difference(higher, lower))


def gaps(
    higher: Mapping[str, Row], lower: Mapping[str, Row], archs: Iterable[str], uncertainty: Uncertainty
) -> tuple[Gap, ...]:
    """Of `higher` over `lower`, on each of these architectures that both were measured on."""
    return tuple(
        gap(higher[arch], lower[arch], arch, uncertainty)
        for arch in archs
        if arch in higher and arch in lower
    )


def beyond_noise(over: Gap, tolerance: float) -> bool:
    """Whether one is shown higher at all: by the interval, or without one by more than the tolerance."""
    return over.eval > tolerance if over.interval is None else over.interval[0] > 0


@dataclass(frozen=True)
class Choice:
    """`chosen` serves `archs`; those in `harmed` are to be left as they are, each by that much."""

    tolerance: float
    settings: tuple[Setting, ...]  # that were weighed: warm, and not harmful unless all are
    archs: tuple[str, ...]  # to re-estimate; empty where all are to be left alone
    stored: Mapping[str, Row]
    best: Setting
    chosen: Setting
    harmed: tuple[Gap, ...]  # stored over the highest setting of that architecture
    helped: tuple[Gap, ...]  # chosen over stored, on `archs`
    against: Setting | None  # the one that says how sure the choice is: the best, or the best's own rival
    behind: tuple[Gap, ...]  # `against` over chosen, on `archs`
    n_cold: int  # settings left out because their average is cold
    n_harmful: int  # left out because they are worse than stored somewhere, and others are not
    all_cold: bool

    @property
    def shown(self) -> bool:
        """Whether intervals show that nothing dearer is better by more than the tolerance."""
        return all(one.shown_within(self.tolerance) for one in self.behind)

    @property
    def shown_to_help(self) -> tuple[Gap, ...]:
        return tuple(one for one in self.helped if beyond_noise(one, self.tolerance))

    @property
    def doubled(self) -> bool:
        """Whether more images by the same rule and batch size were measured than the chosen reads."""
        where = _ladder(self.chosen)
        return any(_ladder(s) == where and s.n_samples > self.chosen.n_samples for s in self.settings)


def _ladder(setting: Setting) -> tuple[object, ...]:
    return setting.estimator, setting.momentum, setting.batch_size


def choose(
    measured: Sequence[Setting],
    stored: Mapping[str, Row],
    uncertainty: Uncertainty,
    tolerance: float,
    cost: str = "recal_s",
) -> Choice:
    """By the rule above; `measured` holds at least one setting, `stored` rows of some architectures or none.

    `cost` is the column that seconds are read from.
    """
    warm = [setting for setting in measured if not setting.is_cold]
    settings = warm or list(measured)
    every = tuple(sorted(settings[0].rows))
    harmed = [worst for arch in every if (worst := _harm(arch, settings, stored, uncertainty, tolerance))]
    archs = tuple(arch for arch in every if arch not in {one.arch for one in harmed})
    allowed, n_harmful = settings, 0
    if archs:
        harmless = [s for s in settings if not _harms(s, stored, archs, uncertainty, tolerance)]
        allowed = harmless or settings
        n_harmful = len(settings) - len(allowed)
    best = max(allowed, key=lambda setting: setting.mean_over(archs or every))
    while archs and (worse := _harms(best, stored, archs, uncertainty, tolerance)):
        harmed += worse  # no setting serves them all
        archs = tuple(arch for arch in archs if arch not in {one.arch for one in worse})
        best = max(allowed, key=lambda setting: setting.mean_over(archs or every))
    served = archs or every
    good = [
        s
        for s in allowed
        if not any(g.shown_over(tolerance) for g in gaps(best.rows, s.rows, served, uncertainty))
        and not _harms(s, stored, archs, uncertainty, tolerance)
    ]
    chosen = _cheapest(good or [best], served, cost)
    against = _against(chosen, best, allowed, served, uncertainty)
    return Choice(
        tolerance,
        tuple(allowed),
        archs,
        stored,
        best,
        chosen,
        tuple(harmed),
        gaps(chosen.rows, stored, archs, uncertainty),
        against,
        gaps(against.rows, chosen.rows, served, uncertainty) if against else (),
        len(measured) - len(settings),
        n_harmful,
        not warm,
    )


def _harm(
    arch: str, settings: Sequence[Setting], stored: Mapping[str, Row], known: Uncertainty, tolerance: float
) -> Gap | None:
    """How much the network as it stands is above this architecture's highest setting, if that is shown."""
    if arch not in stored:
        return None
    highest = max((setting.rows[arch] for setting in settings), key=lambda row: float(row["eval"]))
    over = gap(stored[arch], highest, arch, known)
    return over if beyond_noise(over, tolerance) else None


def _harms(
    setting: Setting, stored: Mapping[str, Row], archs: Iterable[str], known: Uncertainty, tolerance: float
) -> list[Gap]:
    return [g for g in gaps(stored, setting.rows, archs, known) if beyond_noise(g, tolerance)]


def _cheapest(settings: Sequence[Setting], archs: Sequence[str], cost: str) -> Setting:
    """The fewest images; of equals the highest mean eval. `exact` against the others by seconds."""

    def fewest(some: Sequence[Setting]) -> Setting:
        return min(some, key=lambda setting: (setting.n_samples, -setting.mean_over(archs)))

    kinds = [[s for s in settings if (s.estimator == "exact") is exact] for exact in (False, True)]
    return min((fewest(kind) for kind in kinds if kind), key=lambda setting: setting.seconds(cost))


def _against(
    chosen: Setting, best: Setting, settings: Sequence[Setting], archs: Sequence[str], known: Uncertainty
) -> Setting | None:
    """The best, or where that is chosen, of those with more images the one that may be furthest above it."""
    if chosen is not best:
        return best
    dearer = [setting for setting in settings if setting.n_samples > chosen.n_samples]

    def reach(setting: Setting) -> float:
        found = gaps(setting.rows, chosen.rows, archs, known)
        return max(g.eval if g.interval is None else g.interval[1] for g in found)

    return max(dearer, key=reach, default=None)


def settings_of(sections: Iterable[Section], archs: Iterable[str], cost: str = "total_s") -> list[Setting]:
    """The settings measured on every one of these architectures, with times."""
    wanted = set(archs)
    return [
        Setting(section.estimator, section.momentum, *at, rows)
        for section in sections
        for at in section.settings
        if set(rows := section.at(*at)) == wanted and all(row[cost] is not None for row in rows.values())
    ]
