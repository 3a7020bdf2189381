"""What a search may say of itself: each sentence with its condition, and without."""

from typing import Any

import pytest

from bnrecal.report.analysis.searched import EXHAUSTED, Candidate, Searched
from bnrecal.store.searched import Member, Search

MEMBERS = tuple(Member(arch, arch, 10, 1) for arch in ("a", "b"))
JUDGED = tuple(Candidate(member.arch, 1.0, 10, 1, 1) for member in MEMBERS)


def notes(
    n_space: int, n_failed: int = 0, population: int = 3, ended: bool | None = True, **changed: Any
) -> list[str]:
    """Of a search whose one generation, of two that were asked for, has two members."""
    settings = {"population": population, "generations": 2}
    facts: dict[str, Any] = {"n_space": n_space, "ended": ended, **changed}
    bounds = facts.pop("bounds", {"flops": 10})
    search = Search("bn", "evolution", bounds, settings, (MEMBERS,), **facts)
    return Searched(search, JUDGED[: 2 - n_failed], n_failed, {}).notes


@pytest.mark.parametrize(
    ("n_space", "n_failed", "population", "ended", "is_said"),
    [
        (EXHAUSTED, 0, 3, True, True),
        (EXHAUSTED, 0, 2, True, True),  # the generation is full, and nobody was left for the next
        (EXHAUSTED + 1, 0, 3, True, False),  # random draws may have missed some
        (0, 0, 3, True, False),  # a file that does not say
        (EXHAUSTED, 1, 3, True, False),  # who could not be judged may be the best
        (EXHAUSTED, 0, 2, False, False),  # it was stopped, so others may be left
        (EXHAUSTED, 0, 3, False, False),
        (EXHAUSTED, 0, 2, None, False),  # an older file does not say
    ],
)
def test_that_nothing_is_better_needs_everyone_judged(
    n_space: int, n_failed: int, population: int, ended: bool | None, is_said: bool
) -> None:
    """A space small enough to be taken whole, fewer than were asked for, and nobody who failed."""
    said = any("so there is no better one" in note for note in notes(n_space, n_failed, population, ended))
    assert said == is_said


def test_a_search_that_was_stopped_says_so() -> None:
    """And how far it came; one that ended does not."""
    assert notes(9, ended=False) == ["it has not ended: 1 of 2 generations; the same command goes on"]
    assert not any("not ended" in note for note in [*notes(9), *notes(9, ended=None)])


def test_bounds_are_spoken_of_where_there_are_some() -> None:
    """In what is said of a space that was tried whole, and of generations that came out short."""
    for n_space, n_failed, said in (
        (9, 0, "every architecture{} was judged, so there is no better one"),
        (9, 1, "every architecture{} was tried"),
        (EXHAUSTED + 1, 0, "from generation 1 on fewer than 3 were found that are new{and}"),
    ):
        within = " within the bounds"
        assert said.format(within, **{"and": f" and{within}"}) in notes(n_space, n_failed)
        assert said.format("", **{"and": ""}) in notes(n_space, n_failed, bounds={})
