"""Evolution: its invariants, that it can be killed, and that it finds the optimum it should."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bnrecal.errors import BnrecalError
from bnrecal.search.evolution import Settings, State, ask, search, tell
from bnrecal.search.knapsack import best
from bnrecal.search.space import Choices, Space

SPACE = Space((("0", "1", "2", "3"),) * 8)
SCORES = [{c: ((7 * at + 3 * c * c) % 11) / 11 for c in range(4)} for at in range(8)]
COSTS = [{c: ((5 * at + 2 * c) % 7 + c,) for c in range(4)} for at in range(8)]
BOUND = 28


def cost(choices: Choices) -> int:
    return sum(COSTS[at][c][0] for at, c in enumerate(choices))


def legal(choices: Choices) -> bool:
    return cost(choices) <= BOUND


def additive(archs: Sequence[str]) -> Mapping[str, float | None]:
    return {arch: sum(SCORES[at][c] for at, c in enumerate(SPACE.decode(arch))) for arch in archs}


@given(st.integers(0, 2**32))
@hypothesis_settings(max_examples=10, deadline=None)
def test_never_an_illegal_or_repeated_architecture(seed: int) -> None:
    """Whatever the seed: all asked for differ, keep the bound and the forbidden choices, and fill every
    generation."""
    space = SPACE.without(["3:1"])
    settings = Settings(population=20, generations=6, mutants=8, crossovers=8, parents=5, seed=seed)
    found = search(space, settings, additive, legal)
    archs = [arch for arch, _ in found.judged]
    assert len(archs) == len(set(archs)) == 120
    assert all(legal(space.decode(arch)) and space.allows(space.decode(arch)) for arch in archs)


def test_what_random_draws_do_not_find_is_made_legal() -> None:
    """Of 4^8 architectures the cheapest alone is within: 1,000 draws miss it, repaired ones are it; with
    room for more all are found that way, different and legal."""
    least = min(map(cost, SPACE.every()))

    def cheapened(choices: Choices, numbers: np.ndarray) -> Choices:
        for at in np.argsort(numbers):
            if cost(choices) <= bound:
                break
            choices = (*choices[:at], min(range(4), key=lambda c: COSTS[at][c][0]), *choices[at + 1 :])
        return choices

    settings = Settings(population=4, generations=1, mutants=0, crossovers=0)
    for bound, n in ((least, 1), (least + 2, 4)):
        within = lambda choices: cost(choices) <= bound  # noqa: B023, E731
        found = ask(SPACE, settings, State(), within, cheapened, random_tries=1)
        assert len(set(found)) == len(found) == n
        assert all(map(within, map(SPACE.decode, found)))
        assert not ask(SPACE, settings, State(), within, random_tries=1)


def test_killed_anywhere_it_ends_the_same() -> None:
    """A second search that finds some figures in a store and judges the rest asks for the same and ends
    the same."""
    settings = Settings(population=10, generations=5, mutants=4, crossovers=4, parents=4)
    whole = search(SPACE, settings, additive, legal)
    for n_kept in (0, 7, 10, 23, 50):
        store = dict(whole.judged[:n_kept])

        def judge(archs: Sequence[str], store: dict[str, float | None] = store) -> Mapping[str, float | None]:
            store.update(additive([arch for arch in archs if arch not in store]))
            return {arch: store[arch] for arch in archs}

        assert search(SPACE, settings, judge, legal) == whole
        assert set(store) == {arch for arch, _ in whole.judged}


def test_an_additive_score_comes_to_the_knapsack_optimum() -> None:
    """With BN-NAS' settings 1,000 of 65,536 architectures are looked at and the exact optimum is among them;
    as many random ones miss it."""
    exact = best(SCORES, COSTS, [BOUND])
    found = search(SPACE, Settings(), additive, legal)
    assert len(found.judged) == 1000
    assert found.best(1)[0][1] == pytest.approx(exact.score, abs=1e-12)
    at_random = additive(SPACE.random(1000, 0, accept=legal)).values()
    assert max(score for score in at_random if score is not None) < exact.score - 1e-9


def test_the_last_generation_counts() -> None:
    """An architecture only the last generation holds can be the best found."""
    settings = Settings(population=10, generations=3, mutants=4, crossovers=4, parents=4)
    last = search(SPACE, settings, additive).judged[-1][0]

    def judge(archs: Sequence[str]) -> Mapping[str, float | None]:
        return {arch: 9.0 if arch == last else score for arch, score in additive(archs).items()}

    assert search(SPACE, settings, judge).best(1) == [(last, 9.0)]


def test_who_cannot_be_judged_is_no_parent_and_not_asked_for_again() -> None:
    """None and NaN are kept as judged, and never among the best."""
    settings = Settings(population=10, generations=4, mutants=4, crossovers=4, parents=4)

    def judge(archs: Sequence[str]) -> Mapping[str, float | None]:
        return {a: None if a[0] == "0" else float("nan") if a[0] == "1" else 1.0 for a in archs}

    found = search(SPACE, settings, judge)
    assert len({arch for arch, _ in found.judged}) == 40
    assert all(arch[0] in "23" for arch, _ in found.best(40))


def test_mutants_and_crossovers_come_from_the_best() -> None:
    """With one parent, no mutation and no random ones there is nothing new; a mutant of a certain change
    rate stays near its parent."""
    parent = "0-1-2-3-0-1-2-3"
    state = tell(State(), [parent], {parent: 1.0})
    settings = Settings(population=20, parents=1, mutants=20, crossovers=0, mutation=0.1)
    asked = ask(SPACE, settings, state)
    differing = [
        sum(a != b for a, b in zip(SPACE.decode(arch), SPACE.decode(parent), strict=True)) for arch in asked
    ]
    assert len(asked) == 20
    assert 1 <= sum(differing) / 20 < 2  # of 8 layers, .1 x 3/4 each, those without a change rejected


def test_a_small_space_is_searched_to_its_end() -> None:
    """Fewer architectures than asked for: each once, then the search ends."""
    small = Space((("a", "b", "c"), ("x", "y")))
    found = search(
        small,
        Settings(population=4, generations=9, mutants=2, crossovers=2),
        lambda archs: dict.fromkeys(archs, 1.0),
    )
    assert sorted(arch for arch, _ in found.judged) == sorted(map(small.encode, small.every()))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"population": 0}, "1 or more"),
        ({"mutants": 40}, "more than a population"),
        ({"mutation": 1.5}, "0 to 1"),
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, float], message: str) -> None:
    """Refused with the value."""
    with pytest.raises(BnrecalError, match=message):
        Settings(**wrong)  # type: ignore[arg-type]
