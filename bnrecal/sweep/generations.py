"""A search as rounds over stored cells: what a generation is to have depends on what came out of the last.

A generation follows from the figures of those before it and from the seed alone (search/evolution.py), and
figures are rows: a search that was killed finds what it has asked for, and ends as one that was not.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bnrecal.errors import BnrecalError
from bnrecal.plan.opened import Opened
from bnrecal.search.cost import Additive, Cost, Costs
from bnrecal.search.evolution import RANDOM_TRIES, Settings, State, ask, tell
from bnrecal.search.judges import Scores, cost_scores
from bnrecal.search.knapsack import front
from bnrecal.search.space import Choices, Space
from bnrecal.store.searched import Member, Search
from bnrecal.store.store import Store
from bnrecal.study.cells import Cell, Judgement

Asked = Sequence[Cell | Judgement]
# does what has no row of these architectures, and gives what each of them was asked as
Measure = Callable[[Opened, Sequence[str]], Asked]
MOST_OF_FRONT = 1000  # architectures kept of an exact trade-off
COUNTED_TRIES = 100  # draws for each that is missing, where each is built to be counted
COSTS = ("flops", "params")  # judges that costs are the score of
CONFIRMED = 10  # of the best of an evolution, by counting


@dataclass(frozen=True)
class Bounds:
    """What an architecture may cost at most; None: anything."""

    flops: int | None = None
    params: int | None = None

    def allow(self, cost: Cost) -> bool:
        return (self.flops is None or cost.flops <= self.flops) and (
            self.params is None or cost.params <= self.params
        )

    @property
    def kinds(self) -> dict[str, int]:
        """Those that are set, by name."""
        both = {"flops": self.flops, "params": self.params}
        return {name: bound for name, bound in both.items() if bound is not None}


@dataclass(frozen=True)
class Searching:
    """What a search is made in. `space` may have fewer choices than the source's, by what is forbidden."""

    opened: Opened
    store: Store
    space: Space
    costs: Costs
    bounds: Bounds

    def is_legal(self, choices: Choices) -> bool:
        return self.bounds.allow(self.costs.of_choices(choices))

    def cheapened(self, choices: Choices, numbers: np.ndarray) -> Choices:
        """The cheapest choice in one layer after another, in the order of `numbers` (layers,), until legal.

        Cheapest by the sum of costs, each as a share of its bound. Needs costs that add up.
        """
        additive, bounds = self.costs.additive, self.bounds.kinds
        assert additive is not None
        for at in np.argsort(numbers, kind="stable"):
            if self.bounds.allow(additive.of(choices)):
                break
            part = additive.parts[at]
            least = min(
                self.space.allowed[at],
                key=lambda c: sum(getattr(part[c], kind) / max(bound, 1) for kind, bound in bounds.items()),
            )
            choices = (*choices[:at], least, *choices[at + 1 :])
        return choices

    def members(self, asked: Asked) -> tuple[Member, ...]:
        """Each with its costs."""
        costs = [self.costs.of(one.arch) for one in asked]
        return tuple(
            Member(one.arch, one.key, cost.flops, cost.params) for one, cost in zip(asked, costs, strict=True)
        )

    def of(self, archs: Sequence[str]) -> Opened:
        """The study of these architectures."""
        return replace(self.opened, study=self.opened.study.model_copy(update={"arch": tuple(archs)}))


class CostsDoNotAddUpError(BnrecalError):
    """The exact search adds costs over layers, and here that is not what architectures cost."""

    def __init__(self) -> None:
        super().__init__(
            "--method exact: costs of this space do not add up over layers (widths that depend on each "
            "other); use evolution"
        )


def evolve(
    within: Searching, search: Search, settings: Settings, measure: Measure, keep: Callable[[Search], None]
) -> Search:
    """All generations; after each `keep` is given the search so far.

    Begins anew, from rows that are there by then, should the best turn out to cost other than the sum over
    layers says. Raises BnrecalError where no architecture is found within the bounds.
    """
    while True:
        found, best = _evolved(within, search, settings, measure, keep)
        if within.costs.confirm(best):
            return found


def _evolved(
    within: Searching, search: Search, settings: Settings, measure: Measure, keep: Callable[[Search], None]
) -> tuple[Search, list[str]]:
    """(the search with its generations, the best ten)."""
    state = State()
    adds_up = within.costs.additive is not None
    repair, tries = (within.cheapened, RANDOM_TRIES) if adds_up else (None, COUNTED_TRIES)
    while state.generation < settings.generations:
        archs = ask(within.space, settings, state, within.is_legal, repair, tries)
        if not archs:
            break
        asked = measure(within.of(archs), archs)
        figures = scores_of(within.store, asked)
        state = tell(state, archs, {one.arch: figures.get(one.key) for one in asked})
        search = replace(search, generations=(*search.generations, within.members(asked)))
        keep(search)
    if not search.generations:
        raise BnrecalError(_none_within(within, settings.population * tries))
    search = replace(search, ended=True)
    keep(search)
    return search, [arch for arch, _ in state.best(CONFIRMED)]


def solve(
    within: Searching, search: Search, scores: Scores, measure: Measure, keep: Callable[[Search], None]
) -> Search:
    """The exact trade-off between an additive score and costs within the bounds, the best first.

    Every architecture of it is counted, not only added up. Where costs do not add up and none is bounded, the
    best alone. Raises CostsDoNotAddUpError, and BnrecalError where nothing is within the bounds.
    """
    allowed = [
        {c: s for c, s in layer.items() if c in ok}
        for layer, ok in zip(scores, within.space.allowed, strict=True)
    ]
    additive = within.costs.additive
    if additive is None:
        if within.bounds.kinds or search.judge in COSTS:
            raise CostsDoNotAddUpError
        archs, n = [within.space.encode(max(layer, key=lambda c: layer[c]) for layer in allowed)], 1
    else:
        kinds = tuple(within.bounds.kinds) or ("flops",)
        costs = [
            {c: tuple(getattr(part[c], kind) for kind in kinds) for c in ok}
            for part, ok in zip(additive.parts, within.space.allowed, strict=True)
        ]
        found = front(allowed, costs, _left(within.bounds, additive))
        if not found:
            raise BnrecalError(_none_within(within, 0))
        archs, n = [within.space.encode(one.choices) for one in found[:MOST_OF_FRONT]], len(found)
        if not within.costs.confirm(archs):
            return solve(within, search, scores, measure, keep)  # knowing that they do not
    members = within.members(measure(within.of(archs), archs))
    search = replace(search, generations=(members,), n_front=n, ended=True)
    keep(search)
    return search


def cost_shares(costs: Costs, judge: str) -> Scores:
    """The share of every choice in the judge flops or params. Raises CostsDoNotAddUpError."""
    if costs.additive is None:
        raise CostsDoNotAddUpError
    return cost_scores(costs.additive, judge)


def scores_of(store: Store, asked: Iterable[Cell | Judgement]) -> dict[str, float]:
    """By key, of those that are done."""
    keys = {one.key for one in asked}
    rows = (row for row in store.latest() if row["key"] in keys and row["status"] == "done")
    return {row["key"]: float(row["eval"] if "eval" in row else row["score"]) for row in rows}


def _left(bounds: Bounds, additive: Additive) -> list[int] | None:
    """What the bounds leave beyond the cost of every layer's first choice."""
    if not bounds.kinds:
        return None
    return [bound - getattr(additive.base, kind) for kind, bound in bounds.kinds.items()]


def _none_within(within: Searching, n_drawn: int) -> str:
    """What is said where nothing was found: that there is nothing only where that is known."""
    said = ", ".join(f"--max-{kind} {bound:,}" for kind, bound in within.bounds.kinds.items())
    additive = within.costs.additive
    if additive is None and within.space.size <= RANDOM_TRIES:  # a small space is taken whole, see `ask`
        return f"{said}: none of all {within.space.size:,} architectures is within"
    if additive is None:
        return f"{said}: none of {n_drawn:,} architectures drawn at random is within"
    parts = list(zip(additive.parts, within.space.allowed, strict=True))
    least = {
        kind: getattr(additive.base, kind)
        + sum(min(getattr(part[c], kind) for c in ok) for part, ok in parts)
        for kind in within.bounds.kinds
    }
    alone = ", each by itself," if len(least) > 1 else ""
    lowest = f"the least{alone} is {', '.join(f'{n:,} {kind}' for kind, n in least.items())}"
    if n_drawn and all(least[kind] <= bound for kind, bound in within.bounds.kinds.items()):
        return f"{said}: of {n_drawn:,} architectures drawn at random none is within all; {lowest}"
    return f"{said}: no architecture is within; {lowest}"
