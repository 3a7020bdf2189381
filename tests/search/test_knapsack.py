"""The exact optimum against looking at every architecture."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnrecal.errors import BnrecalError
from bnrecal.search.knapsack import Costs, Scores, best, by_trying_all, front

Problem = tuple[Scores, Costs]


@st.composite
def problems(draw: Any, n_kinds: int) -> Problem:
    """Up to 6 layers of up to 4 choices; few different values, so that ties are common."""
    scores, costs = [], []
    for _ in range(draw(st.integers(1, 6))):
        n = draw(st.integers(1, 4))
        values = st.one_of(st.integers(-3, 3).map(float), st.floats(-1, 1, allow_nan=False), st.just(0.1))
        scores.append({c: draw(values) for c in range(n)})
        costs.append({c: tuple(draw(st.integers(0, 4)) for _ in range(n_kinds)) for c in range(n)})
    return scores, costs


@given(problems(1), st.integers(0, 20))
def test_one_bound(problem: Problem, bound: int) -> None:
    """Choices, score and cost equal brute force's, ties included; where none fits both say so."""
    expected = by_trying_all(*problem, [bound])
    if expected is None:
        with pytest.raises(BnrecalError, match="no architecture is within the bounds"):
            best(*problem, [bound])
    else:
        assert best(*problem, [bound]) == expected


@given(problems(2), st.integers(0, 15), st.integers(0, 15))
def test_two_bounds(problem: Problem, first: int, second: int) -> None:
    """The same under a bound on FLOPs and one on parameters at once."""
    expected = by_trying_all(*problem, [first, second])
    if expected is not None:
        assert best(*problem, [first, second]) == expected


@given(problems(1))
def test_the_front_is_the_optimum_of_every_bound(problem: Problem) -> None:
    """Each bound's best is on the front, and each of the front is the best of its own cost."""
    found = front(*problem)
    for bound in range(25):
        expected = by_trying_all(*problem, [bound])
        within = [f for f in found if f.costs[0] <= bound]
        assert (within[0] if within else None) == expected
    assert [best(*problem, f.costs) for f in found] == found


def test_sums_are_exact() -> None:
    """.1 + .2 is more than .3 as floats are, by a difference that adding up floats would lose at 1e16."""
    scores = [{0: 1e16}, {0: 0.30000000000000004, 1: 0.3}]
    costs: Costs = [{0: (1,)}, {0: (2,), 1: (1,)}]
    assert best(scores, costs, [9]).choices == (0, 0)
    assert best(scores, costs, [2]).choices == (0, 1)


def test_the_error_names_bound_and_lowest_cost() -> None:
    """What would be needed is said."""
    with pytest.raises(BnrecalError, match=r"within the bounds 5; .* are 1,007"):
        best([{0: 1.0}, {0: 1.0, 1: 2.0}], [{0: (1000,)}, {0: (9,), 1: (7,)}], [5])


def test_a_large_space_is_solved_without_walking_it() -> None:
    """21 layers of 6 choices with costs of their own (BN-NAS' space, 2 x 10^16 paths): within the bound, and
    better than 2,000 random paths within it."""
    draw = random.Random(0)
    scores = [{c: draw.random() for c in range(6)} for _ in range(21)]
    costs = [{c: (draw.randint(1, 40),) for c in range(6)} for _ in range(21)]
    found = best(scores, costs, [300])
    assert found.costs[0] <= 300
    tried = [tuple(draw.randrange(6) for _ in range(21)) for _ in range(2000)]
    fits = [p for p in tried if sum(costs[at][c][0] for at, c in enumerate(p)) <= 300]
    assert fits
    assert found.score > max(sum(scores[at][c] for at, c in enumerate(p)) for p in fits)
