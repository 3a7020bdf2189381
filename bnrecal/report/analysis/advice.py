"""What to do, in sentences: leave the statistics as they are, or which setting to use and how sure that is.

The decision is choice.py's. Every sentence is a claim that stands under a condition of its own.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import stdev

from bnrecal.report.analysis.against_stored import ends, helps, leave, no_help
from bnrecal.report.analysis.choice import Choice, Gap, choose, settings_of
from bnrecal.report.analysis.durations import spoken
from bnrecal.report.analysis.finding import WARM
from bnrecal.report.analysis.findings import time_name
from bnrecal.report.analysis.preparation import AS_THEY_ARE, first_of_all, left_alone_of
from bnrecal.report.analysis.sections import Section, orders_of
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.report.analysis.wording import counted, listed
from bnrecal.study.axes import TOLERANCE, metric_name

UNMEASURED = "Whether re-estimating helps or harms is not known: the network as it stands was not measured."
MANY = 1000  # architectures a search may calibrate
FEW_IMAGES = 1024  # below this another order of the images may give another figure


@dataclass(frozen=True, eq=False)
class Advice:
    """For one task, data set and metric."""

    task: str
    metric: str
    choice: Choice
    cost: str  # the column of seconds
    dearest: float  # seconds
    estimators: tuple[str, ...]
    n_evaluation: int | None  # images behind the intervals

    @property
    def verdict(self) -> str:
        """ "leave" (re-estimating harms all), "not shown to help" (and no harm), or "use"."""
        choice = self.choice
        if self._all_zero:
            return "not shown to help"
        if not choice.archs:
            return "leave"
        if len(choice.helped) == len(choice.archs) and not choice.shown_to_help:
            return "not shown to help"
        return "use"

    @property
    def first(self) -> list[str]:
        """How to prepare the images, where the networks as they stand say otherwise."""
        return first_of_all(self.choice.stored)

    def sentences(self) -> list[str]:
        """What to do, why, and what it costs: the preparation first, then harm."""
        first = self.first
        return [*first, AS_THEY_ARE, *self._of_the_setting()] if first else self._of_the_setting()

    def _of_the_setting(self) -> list[str]:
        choice, chosen = self.choice, self.choice.chosen
        if self._all_zero:
            return [
                f"{self.metric} is 0 in every cell measured, which says nothing about settings: look whether "
                "the classes are those of the network, in the order of its outputs (--classes)."
            ]
        said = [leave(choice)] if choice.harmed else []
        if choice.archs:
            others = f"For {listed(choice.archs)}: use" if choice.harmed else "Use"
            if self.verdict == "not shown to help":
                said += [
                    no_help(choice, self.metric),
                    f"If they are re-estimated all the same, use {chosen.name}.",
                ]
            else:
                said += [f"{others} {chosen.name}.", *helps(choice, self.metric)]
            said += [*self._why(), *self._unmeasured(), *self._too_few(), *self._orders(), self._cost()]
        return [*said, *self._left_out(), *self._one_estimator(), *left_alone_of(choice.stored)]

    def _unmeasured(self) -> list[str]:
        return [] if self.choice.stored else [UNMEASURED]

    @property
    def _all_zero(self) -> bool:
        """Whether no network, as it stands or re-estimated, gets anything right."""
        measured = [setting.rows for setting in self.choice.settings]
        return all(row["eval"] == 0 for rows in [*measured, self.choice.stored] for row in rows.values())

    @property
    def names_cost(self) -> bool:
        """Whether a sentence says what the update pass costs."""
        return self.cost == "recal_s" and bool(self.choice.archs) and not self._all_zero

    def _why(self) -> list[str]:
        choice, chosen = self.choice, self.choice.chosen
        if chosen is choice.best:
            return [self._best(), *self._rival()]
        worst = max(choice.behind, key=lambda one: one.eval)
        said = [
            f"It is the cheapest that is not shown worse by more than {choice.tolerance:g}{self._each} than "
            f"the highest mean eval measured ({choice.best.name})."
        ]
        short = (
            f"It falls short of that by {worst.eval:.4f}{self._where(worst)}"
            if worst.eval > 0
            else "As measured it falls short of that nowhere"
        )
        if worst.interval is None:
            return [*said, f"{short}; there is no per-image evidence to say how certain that is."]
        loosest = max(choice.behind, key=lambda one: one.interval[1] if one.interval else math.inf)
        assert loosest.interval is not None
        bound = loosest.interval[1]
        if choice.shown:
            return [*said, f"{short}; with 95 % confidence by no more than {max(bound, 0):.4f}{self._each}."]
        return [*said, f"{short}; the interval reaches {bound:.4f}{self._on(loosest.arch)}."]

    def _best(self) -> str:
        """Why none of fewer images will do."""
        choice, chosen = self.choice, self.choice.chosen
        if len(choice.settings) == 1:
            return "It is the only setting measured."
        n_fewer = sum(setting.n_samples < chosen.n_samples for setting in choice.settings)
        highest = f"It has the highest mean eval of the {len(choice.settings):,} settings measured"
        if not n_fewer:
            return f"{highest}, and none reads fewer images."
        each = "each" if n_fewer > 1 else "the one"
        some = " on some architecture" if len(choice.archs) > 1 else ""
        how = "is shown worse" if self.n_evaluation else "is worse as measured"
        return f"{highest}; {each} with fewer images {how} by more than {choice.tolerance:g}{some}."

    def _rival(self) -> list[str]:
        """How much better something dearer may be, where the best is chosen."""
        choice = self.choice
        if choice.against is None:
            return (
                []
                if len(choice.settings) == 1
                else ["No setting with more images was measured; more may give more."]
            )
        loosest = max(choice.behind, key=lambda one: one.interval[1] if one.interval else one.eval)
        if loosest.interval is None:
            return ["There is no per-image evidence to say how certain that is."]
        bound = loosest.interval[1]
        if bound < 0:
            said = ["Each setting with more images is shown lower, with 95 % confidence."]
        elif choice.shown and f"{bound:.4f}" == "0.0000":  # as where all predict alike
            said = ["No setting with more images is shown better, with 95 % confidence."]
        elif choice.shown:
            said = [
                f"No setting with more images is better by more than {bound:.4f}{self._each}, "
                "with 95 % confidence."
            ]
        else:
            said = [
                f"Of those with more images {choice.against.name} may still be better: the 95 % interval of "
                f"the difference is {ends(loosest)}{self._on(loosest.arch)}."
            ]
        return (
            said
            if choice.doubled
            else [*said, "More images by this rule were not measured; they may give more."]
        )

    def _too_few(self) -> list[str]:
        """Whether the evaluation images could show a difference of the tolerance, and how many could."""
        choice = self.choice
        width = max((one.half_width or 0.0 for one in choice.behind), default=0.0)
        if choice.shown or width <= choice.tolerance or self.n_evaluation is None:
            return []
        text = (
            f"{self.n_evaluation:,} evaluation images are too few to show a difference of "
            f"{choice.tolerance:g}: the 95 % interval is ±{width:.4f}"
        )
        if choice.tolerance == 0:
            return [f"{text}."]
        enough = _rounded_up(self.n_evaluation * (width / choice.tolerance) ** 2)
        return [
            f"{text}. About {enough:,} would do (an estimate: its width falls with the root of their number)."
        ]

    def _orders(self) -> list[str]:
        """How many orders of the images stand behind the chosen setting."""
        orders = {arch: orders_of(self.choice.chosen.rows[arch]) for arch in self.choice.archs}
        several = {a: stdev(one["eval"] for one in rows) for a, rows in orders.items() if len(rows) > 1}
        if several:
            most = max(several, key=lambda arch: several[arch])
            return [
                f"Mean over {len(orders[most])} orders of the images, between which eval has a standard "
                f"deviation of {several[most]:.4f}{' at most' if len(orders) > 1 else ''}{self._on(most)}."
            ]
        if all(row["seed"] is None for rows in orders.values() for row in rows):
            return []
        if self.choice.chosen.n_samples >= FEW_IMAGES:
            return ["Measured in one order of the images."]
        return [
            f"Measured in one order of the images; with fewer than {FEW_IMAGES:,} another order may give "
            "another figure: bnrecal sweep --repeats 5 measures how far."
        ]

    def _cost(self) -> str:
        chosen = self.choice.chosen
        seconds = chosen.seconds(self.cost)
        what = "the update pass alone" if self.cost == "recal_s" else "everything"
        mean = ", mean" if len(chosen.rows) > 1 else ""
        text = (
            f"Cost: {spoken(seconds)} an architecture ({what}{mean}), {spoken(MANY * seconds)} for {MANY:,}"
        )
        if len(self.choice.settings) == 1 or not seconds or self.dearest < 1.05 * seconds:
            return f"{text}."
        return f"{text}; the dearest setting measured takes {self.dearest / seconds:.1f} times as long."

    def _left_out(self) -> list[str]:
        said, choice = [], self.choice
        if choice.n_harmful:
            said.append(
                f"Left out: {counted(choice.n_harmful, 'setting')} shown worse than the network as it stands"
                f"{' on some architecture' if len(choice.archs) > 1 else ''}."
            )
        if choice.n_cold:
            said.append(
                f"Left out: {counted(choice.n_cold, 'setting')} whose exponential average still "
                f"holds more than {WARM:.1%} of its start; a high eval there would be luck."
            )
        if choice.all_cold:
            said.append(
                f"Every exponential average measured still holds more than {WARM:.1%} of its start: more "
                "updates, or another estimator, may give more."
            )
        return said

    def _one_estimator(self) -> list[str]:
        if len(self.estimators) > 1 or not self.choice.archs:
            return []
        others = "bnrecal advise tries pooled, cumulative and ema"
        return [
            f"Only {self.estimators[0]} was measured; another estimator may need fewer images ({others})."
        ]

    @property
    def _each(self) -> str:
        return " on any architecture" if len(self.choice.archs) > 1 else ""

    def _where(self, one: Gap) -> str:
        """Architecture and interval in brackets."""
        facts = [one.arch] if len(self.choice.archs) > 1 else []
        facts += [f"95 % interval {ends(one)}"] if one.interval else []
        return f" ({', '.join(facts)})" if facts else ""

    def _on(self, arch: str) -> str:
        return f" on {arch}" if len(self.choice.archs) > 1 else ""


def _rounded_up(n: float) -> int:
    """To two significant digits."""
    step = int(10 ** max(0, math.floor(math.log10(n)) - 1))
    return math.ceil(n / step) * step


def advice_of(
    sections: Iterable[Section], uncertainty: Uncertainty, tolerance: float = TOLERANCE
) -> list[Advice]:
    """One for each task, data set and metric with times and something to compare.

    That is two settings measured on every architecture, or one and the networks as they stand.
    """
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
    stored = {arch: row for section in sections for arch, row in section.stored.items()}
    settings = settings_of(sections, archs, cost)
    if len(settings) + bool(stored) < 2 or not settings:
        return None
    choice = choose(settings, stored, uncertainty, tolerance, cost)
    first = sections[0]
    return Advice(
        first.task,
        metric_name(first.metric),
        choice,
        cost,
        max(setting.seconds(cost) for setting in choice.settings),
        tuple(dict.fromkeys(section.estimator for section in sections)),
        uncertainty.n_evaluation(next(iter(choice.chosen.rows.values()))),
    )
