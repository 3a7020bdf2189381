"""The exact best architecture of a score that adds up over layers, under bounds on costs that add up too.

One choice in each layer, the sum of scores as large as possible, the sums of costs within bounds: the
multiple-choice knapsack problem (Sinha and Zoltners, "The multiple-choice knapsack problem", Operations
Research 27(3), 1979). Solved by dynamic programming over layers that keeps of all beginnings those that no
other is at least as good as in score and in every cost; what is left after the last layer is the whole
trade-off between score and cost.

Exact: scores are floats, which are whole numbers of some 2^-k, and are added up as such. The time goes with
the beginnings kept, at most the number of different sums of costs; layers with equal costs have few.
"""

import bisect
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from bnrecal.errors import BnrecalError
from bnrecal.search.space import Choices

MOST_COSTS = 2  # kinds of cost bounded at once

Scores = Sequence[Mapping[int, float]]  # (layers){choice: score}
Costs = Sequence[Mapping[int, tuple[int, ...]]]  # (layers){choice: its cost of each kind}


@dataclass(frozen=True)
class Found:
    """One architecture; `score` is the exact sum, rounded once."""

    choices: Choices
    score: float
    costs: tuple[int, ...]


# (costs, minus score in units of 2^-k, choices): the smaller, the better among equals
_Begun = tuple[tuple[int, ...], int, Choices]


def best(scores: Scores, costs: Costs, bounds: Sequence[int]) -> Found:
    """The architecture of the highest score whose costs are within `bounds`, each inclusive.

    Of equal scores the one of lowest cost (of the first kind, then of the second), of equal costs the one
    whose choices come first. Raises BnrecalError if none is within the bounds.
    """
    found = front(scores, costs, bounds)
    if not found:
        cheapest = [sum(min(cost[k] for cost in of.values()) for of in costs) for k in range(len(bounds))]
        raise BnrecalError(
            f"no architecture is within the bounds {', '.join(f'{b:,}' for b in bounds)}; the lowest costs, "
            f"each by itself, are {', '.join(f'{c:,}' for c in cheapest)}"
        )
    return found[0]


def front(scores: Scores, costs: Costs, bounds: Sequence[int] | None = None) -> list[Found]:
    """All that no other beats: none has at least its score at no higher cost. Highest score first.

    Of those equal in score and costs the one whose choices come first.
    """
    n_kinds = len(next(iter(costs[0].values())))
    if not 1 <= n_kinds <= MOST_COSTS:
        raise BnrecalError(f"{n_kinds} kinds of cost; the exact search takes 1 to {MOST_COSTS}")
    whole, unit = _whole(scores)
    limits = tuple(bounds) if bounds is not None else (math.inf,) * n_kinds
    # the least that the layers still to come will cost
    to_come = [tuple(0 for _ in range(n_kinds))]
    for layer in reversed(costs):
        least = [min(cost[k] for cost in layer.values()) for k in range(n_kinds)]
        to_come.append(tuple(a + b for a, b in zip(to_come[-1], least, strict=True)))
    to_come.reverse()
    begun: list[_Begun] = [(tuple(0 for _ in range(n_kinds)), 0, ())]
    for at, (layer_scores, layer_costs) in enumerate(zip(whole, costs, strict=True)):
        room = tuple(limit - rest for limit, rest in zip(limits, to_come[at + 1], strict=True))
        begun = _unbeaten(_extended(begun, layer_scores, layer_costs, room))
    by_score = sorted(begun, key=lambda state: (state[1], state[0], state[2]))
    return [Found(choices, float(Fraction(-minus, unit)), spent) for spent, minus, choices in by_score]


def _extended(
    begun: Sequence[_Begun],
    scores: Mapping[int, int],
    costs: Mapping[int, tuple[int, ...]],
    room: tuple[float, ...],
) -> Iterable[_Begun]:
    """Every beginning with every choice of the next layer that leaves room for the layers to come."""
    for spent, minus, choices in begun:
        for choice, score in scores.items():
            total = tuple(a + b for a, b in zip(spent, costs[choice], strict=True))
            if all(t <= r for t, r in zip(total, room, strict=True)):
                yield total, minus - score, (*choices, choice)


def _unbeaten(states: Iterable[_Begun]) -> list[_Begun]:
    """Those that no other equals or beats in score and every cost; of equals the first choices.

    In the order of the first cost a state is beaten if one before it has at most its second cost and at
    least its score. Of those before only the best score for each second cost matters: `seconds` rises, and
    so does the score along it.
    """
    kept: list[_Begun] = []
    seconds: list[int] = []
    best_minus: list[int] = []  # of the states up to that second cost
    for state in sorted(states):
        spent, minus, _ = state
        second = spent[1] if len(spent) > 1 else 0
        at = bisect.bisect_right(seconds, second)
        if at and best_minus[at - 1] <= minus:
            continue
        kept.append(state)
        start = bisect.bisect_left(seconds, second)
        stop = start
        while stop < len(seconds) and best_minus[stop] >= minus:
            stop += 1
        seconds[start:stop], best_minus[start:stop] = [second], [minus]
    return kept


def by_trying_all(scores: Scores, costs: Costs, bounds: Sequence[int]) -> Found | None:
    """What `best` gives, found by looking at every architecture; None if none is within the bounds."""
    whole, unit = _whole(scores)
    begun: list[_Begun] = [(tuple(0 for _ in bounds), 0, ())]
    for layer_scores, layer_costs in zip(whole, costs, strict=True):
        begun = list(_extended(begun, layer_scores, layer_costs, (math.inf,) * len(bounds)))
    within = [s for s in begun if all(c <= b for c, b in zip(s[0], bounds, strict=True))]
    if not within:
        return None
    spent, minus, choices = min(within, key=lambda state: (state[1], state[0], state[2]))
    return Found(choices, float(Fraction(-minus, unit)), spent)


def _whole(scores: Scores) -> tuple[list[dict[int, int]], int]:
    """(scores as whole numbers of 1 / unit, unit); a float's denominator is a power of two."""
    fractions = [{c: Fraction(score) for c, score in layer.items()} for layer in scores]
    unit = max(f.denominator for layer in fractions for f in layer.values())
    return [{c: int(f * unit) for c, f in layer.items()} for layer in fractions], unit
