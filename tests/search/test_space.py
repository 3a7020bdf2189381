"""Spaces: how architectures are written, drawn and changed."""

import itertools
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnrecal.data.draws import draws
from bnrecal.errors import BnrecalError
from bnrecal.networks.embedded import SPACE
from bnrecal.search.space import Space

SMALL = Space((("a", "b"), ("0", "1", "2"), ("x",)))
DIGITS = Space((("0", "1", "2"),) * 8, separator="")


def test_planning_a_search_needs_no_torch() -> None:
    """Whatever decides what to judge next can be imported without it; only costs are counted by torch."""
    names = ("space", "evolution", "knapsack", "judges", "ranking", "racing", "truth")
    modules = ", ".join(f"bnrecal.search.{name}" for name in names)
    check = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@given(st.data())
def test_reading_undoes_writing(data: st.DataObject) -> None:
    """decode(encode(choices)) == choices, with a separator and without."""
    for space in (SMALL, DIGITS, SPACE):
        choices = tuple(data.draw(st.integers(0, len(texts) - 1)) for texts in space.layers)
        assert space.decode(space.encode(choices)) == choices


def test_every_architecture_once() -> None:
    """`every` gives the product of the choices in their order; `size` counts it."""
    assert list(SMALL.every()) == list(itertools.product(range(2), range(3), range(1)))
    assert SMALL.size == 6
    assert SPACE.size == 4**8


@pytest.mark.parametrize("arch", ["", "a-3-x", "a-1", "a-1-x-x", "a1x", "A-1-x"])
def test_what_is_no_architecture_is_refused(arch: str) -> None:
    """One line with the value and an example."""
    with pytest.raises(BnrecalError, match=r"--arch: unknown architecture .* such as b-2-x"):
        SMALL.decode(arch)
    with pytest.raises(BnrecalError, match=r"8 choices of 0, 1, 2, such as 22222222"):
        DIGITS.decode("0123")


def test_second_names() -> None:
    """A named architecture is read as what it stands for."""
    assert SPACE.decode("arch2") == (2,) * 8


def test_random_architectures_differ_and_are_the_same_again() -> None:
    """All of a space can be drawn, each once; a seed draws the same; another seed others."""
    assert sorted(SMALL.random(6, 0)) == sorted(map(SMALL.encode, SMALL.every()))
    assert SPACE.random(50, 3) == SPACE.random(50, 3) != SPACE.random(50, 4)
    assert SPACE.random(20, 0) == SPACE.random(50, 0)[:20]
    with pytest.raises(BnrecalError, match="random:7: there are 6 architectures"):
        SMALL.random(7, 0)


def test_random_architectures_of_the_embedded_space_stay_what_they_were() -> None:
    """Studies name random:K; these were drawn before the space had a class of its own."""
    assert SPACE.random(3, 0) == ("3-2-2-3-3-0-0-1", "3-3-3-2-1-0-1-2", "0-2-1-0-2-3-2-0")


def test_draws_are_uniform() -> None:
    """Each choice of each layer within five standard errors of its share in 6,000 draws."""
    numbers = draws(1, np.arange(6000), 3)
    for at, texts in enumerate(SMALL.layers):
        counts = Counter(SMALL.drawn(row)[at] for row in numbers)
        for c in range(len(texts)):
            share = 1 / len(texts)
            assert abs(counts[c] / 6000 - share) <= 5 * (share * (1 - share) / 6000) ** 0.5


def test_forbidden_choices_are_never_taken() -> None:
    """By no draw, neighbour or mutant, and not in `every`; they can still be read."""
    space = DIGITS.without(["0:0", "*:2"])
    assert space.size == 1 * 2**7
    assert space.decode("02222222") == (0, *(2,) * 7)
    assert not space.allows(space.decode("02222222"))
    taken = [*space.every(), *map(space.decode, space.random(100, 0)), *space.neighbours((1,) * 8)]
    taken += [space.mutated((1,) * 8, row, 1.0) for row in draws(0, np.arange(50), 16)]
    assert all(space.allows(choices) for choices in taken)


def test_a_space_with_excluded_architectures_is_exhausted_exactly() -> None:
    """Excluded ones are not drawn; what is left can be."""
    assert set(SMALL.random(4, 0, excluded=["a-0-x", "b-0-x"])) == {
        arch for arch in map(SMALL.encode, SMALL.every()) if arch[2] != "0"
    }
    with pytest.raises(BnrecalError, match="there are 4"):
        SMALL.random(5, 0, excluded=["a-0-x", "b-0-x"])


def test_a_condition_that_nothing_meets_ends() -> None:
    """After 1,000 draws for each one asked for, with the number found."""
    with pytest.raises(BnrecalError, match="gave 0 architectures within the bounds"):
        DIGITS.random(2, 0, accept=lambda _: False)


def test_neighbours_differ_in_one_layer() -> None:
    """All (m - 1) of every layer."""
    found = list(DIGITS.neighbours((0,) * 8))
    assert len(set(found)) == len(found) == 16
    assert all(sum(c != 0 for c in choices) == 1 for choices in found)


def test_mutation_changes_as_often_as_told() -> None:
    """With probability p a layer is drawn anew: it changes with p (m - 1) / m; never for p = 0."""
    rows = draws(7, np.arange(4000), 16)
    changed = np.mean([[c != 1 for c in DIGITS.mutated((1,) * 8, row, 0.3)] for row in rows])
    assert abs(changed - 0.2) < 0.01
    assert all(DIGITS.mutated((1,) * 8, row, 0.0) == (1,) * 8 for row in rows[:50])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("0", "'0'; allowed: LAYER:CHOICE, such as 0:a"),
        ("3:x", "layers are 0 to 2"),
        ("1:z", "unknown choice 'z'; valid: 0, 1, 2"),
        ("2:x", "every choice of layer 2 is forbidden"),
    ],
)
def test_what_cannot_be_forbidden(texts: str, message: str) -> None:
    """The place, the value and what is allowed."""
    with pytest.raises(BnrecalError, match=message):
        SMALL.without([texts])


@pytest.mark.parametrize(
    ("layers", "separator", "message"),
    [
        ((), "-", "at least one layer"),
        ((("a", "a"),), "-", "layer 0 has a choice twice"),
        ((("a-b",),), "-", "without '-'"),
        ((("a", "bb"),), "", "different lengths"),
    ],
)
def test_spaces_that_could_not_be_read_back(
    layers: tuple[tuple[str, ...], ...], separator: str, message: str
) -> None:
    """Refused when they are made."""
    with pytest.raises(BnrecalError, match=message):
        Space(layers, separator)
