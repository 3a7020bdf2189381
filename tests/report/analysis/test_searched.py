"""What a search may say of itself: each sentence with its condition, and without."""

import pytest

from bnrecal.report.analysis.searched import EXHAUSTED, Candidate, Searched
from bnrecal.store.searched import Member, Search

MEMBERS = tuple(Member(arch, arch, 10, 1) for arch in ("a", "b"))
JUDGED = tuple(Candidate(member.arch, 1.0, 10, 1, 1) for member in MEMBERS)


def notes(n_space: int, n_failed: int = 0, population: int = 3) -> list[str]:
    search = Search("bn", "evolution", {"flops": 10}, {"population": population}, (MEMBERS,), n_space=n_space)
    return Searched(search, JUDGED[: 2 - n_failed], n_failed, {}).notes


@pytest.mark.parametrize(
    ("n_space", "n_failed", "population", "is_said"),
    [
        (EXHAUSTED, 0, 3, True),
        (EXHAUSTED + 1, 0, 3, False),  # random draws may have missed some
        (0, 0, 3, False),  # a file that does not say
        (EXHAUSTED, 1, 3, False),  # who could not be judged may be the best
        (EXHAUSTED, 0, 2, False),  # the generation is full, so others may be left
    ],
)
def test_that_nothing_is_better_needs_everyone_judged(
    n_space: int, n_failed: int, population: int, is_said: bool
) -> None:
    """A space small enough to be taken whole, a generation it could not fill, and nobody who failed."""
    said = any("so there is no better one" in note for note in notes(n_space, n_failed, population))
    assert said == is_said
