"""A search as rounds over stored cells: what a generation is to have depends on what came out of the last.

A generation follows from the figures of those before it and from the seed alone (search/evolution.py), and
figures are rows: a search that was killed finds what it has asked for, and ends as one that was not.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from bnrecal.errors import BnrecalError
from bnrecal.plan.opened import Opened
from bnrecal.search.cost import Additive, Cost, Costs
from bnrecal.search.evolution import Settings, State, ask, tell
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

    def members(self, asked: Asked) -> tuple[Member, ...]:
        """Each with its costs."""
        costs = [self.costs.of(one.arch) for one in asked]
        return tuple(
            Member(one.arch, one.key, cost.flops, cost.params) for one, cost in zip(asked, costs, strict=True)
        )

    def of(self, archs: Sequence[str]) -> Opened:
        """The study of these architectures."""
        return replace(self.opened, study=self.opened.study.model_copy(update={"arch": tuple(archs)}))


def evolve(
    within: Searching, search: Search, settings: Settings, measure: Measure, keep: Callable[[Search], None]
) -> Search:
    """All generations; after each `keep` is given the search so far.

    Raises BnrecalError where no architecture is within the bounds.
    """
    state = State()
    while state.generation < settings.generations:
        archs = ask(within.space, settings, state, within.is_legal)
        if not archs:
            break
        asked = measure(within.of(archs), archs)
        figures = scores_of(within.store, asked)
        state = tell(state, archs, {one.arch: figures.get(one.key) for one in asked})
        search = replace(search, generations=(*search.generations, within.members(asked)))
        keep(search)
    if not search.generations:
        raise BnrecalError(_none_within(within))
    return search


def solve(
    within: Searching, search: Search, scores: Scores, measure: Measure, keep: Callable[[Search], None]
) -> Search:
    """The exact trade-off between an additive score and costs within the bounds, the best first.

    Raises BnrecalError where costs do not add up over layers, and where nothing is within the bounds.
    """
    additive = within.costs.additive
    if additive is None:
        raise BnrecalError(
            "--method exact: costs of this space do not add up over layers (widths that depend on each "
            "other); use evolution"
        )
    kinds = tuple(within.bounds.kinds) or ("flops",)
    found = front(
        [
            {c: s for c, s in layer.items() if c in ok}
            for layer, ok in zip(scores, within.space.allowed, strict=True)
        ],
        [
            {c: tuple(getattr(part[c], kind) for kind in kinds) for c in ok}
            for part, ok in zip(additive.parts, within.space.allowed, strict=True)
        ],
        _left(within.bounds, additive),
    )
    if not found:
        raise BnrecalError(_none_within(within))
    archs = [within.space.encode(one.choices) for one in found[:MOST_OF_FRONT]]
    search = replace(search, generations=(within.members(measure(within.of(archs), archs)),))
    keep(search)
    return search


def cost_shares(costs: Costs, judge: str) -> Scores:
    """The share of every choice in the judge flops or params; of none where they do not add up."""
    return [] if costs.additive is None else cost_scores(costs.additive, judge)


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


def _none_within(within: Searching) -> str:
    said = ", ".join(f"--max-{kind} {bound:,}" for kind, bound in within.bounds.kinds.items())
    cheapest = ""
    if within.costs.additive is not None:
        parts = list(zip(within.costs.additive.parts, within.space.allowed, strict=True))
        least = {
            kind: getattr(within.costs.additive.base, kind)
            + sum(min(getattr(part[c], kind) for c in ok) for part, ok in parts)
            for kind in within.bounds.kinds
        }
        cheapest = "; the least is " + ", ".join(f"{n:,} {kind}" for kind, n in least.items())
    return f"{said}: no architecture is within{cheapest}"
