"""Evolution over a search space as in BN-NAS and SPOS, generation by generation, asked and told.

The first generation is drawn at random. Each later one is made from the best so far: mutants, in which
every layer is drawn anew with a small probability, and uniform crossovers of two of them; what is missing is
drawn at random. Architectures outside the bounds and those seen before are rejected, up to 10 tries for
each that is wanted (Chen et al., "BN-NAS", ICCV 2021, and the evolution of its released code, which is
SPOS': Guo et al., ECCV 2020). There the last generation never enters the best; here it counts.

All randomness comes from the seed, the number of the generation and that of the try, so a generation is a
pure function of the figures of those before it: a search that was killed and is told the figures it has
already asked for goes on to the same end.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bnrecal.data.draws import draws, stream_key
from bnrecal.errors import BnrecalError
from bnrecal.search.space import Choices, Space, unit

Legal = Callable[[Choices], bool]
Judge = Callable[[Sequence[str]], Mapping[str, float | None]]  # None: could not be judged

# makes an architecture legal, from numbers (layers,): see Searching.cheapened
Repair = Callable[[Choices, np.ndarray], Choices]

RANDOM_TRIES = 1000  # for each that is missing


@dataclass(frozen=True)
class Settings:
    """BN-NAS' own, but for the number of generations counted with the first: 20 x 50 = 1,000 subnets."""

    population: int = 50
    generations: int = 20
    parents: int = 10  # the best so far, from which mutants and crossovers are made
    mutants: int = 25
    crossovers: int = 25
    mutation: float = 0.1  # probability that a layer of a mutant is drawn anew
    tries: int = 10  # rejected ones, for each wanted
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.population, self.generations, self.parents) < 1 or min(self.mutants, self.crossovers) < 0:
            raise BnrecalError("search: population, generations and parents must be 1 or more")
        if self.mutants + self.crossovers > self.population:
            raise BnrecalError(
                f"search: {self.mutants} mutants and {self.crossovers} crossovers are more than a population "
                f"of {self.population}"
            )
        if not 0 <= self.mutation <= 1:
            raise BnrecalError(f"search: mutation={self.mutation}: a probability, 0 to 1")


@dataclass(frozen=True)
class State:
    """What is known before a generation is made."""

    generation: int = 0  # the next one
    judged: tuple[tuple[str, float | None], ...] = ()  # everyone so far, in the order asked for

    def best(self, n: int) -> list[tuple[str, float]]:
        """The n highest; of equal ones whoever was asked for first. Who could not be judged is not there."""
        known = [(arch, score) for arch, score in self.judged if score is not None]
        return sorted(known, key=lambda pair: -pair[1])[:n]


def ask(
    space: Space,
    settings: Settings,
    state: State,
    legal: Legal = lambda _: True,
    repair: Repair | None = None,
    random_tries: int = RANDOM_TRIES,
) -> tuple[str, ...]:
    """The next generation: legal, all different and none asked for before.

    Where `random_tries` draws for each that is missing find too few, more are drawn and made legal by
    `repair`. Fewer than a population where the space has no more, or none was found; empty when there is
    nothing left to ask for.
    """
    fresh = _Fresh(space, settings, legal, state.generation, {arch for arch, _ in state.judged})
    parents = [space.decode(arch) for arch, _ in state.best(settings.parents)]
    if parents:
        fresh.fill(
            "mutant",
            settings.mutants,
            settings.tries,
            lambda numbers: _mutant(space, settings, parents, numbers),
        )
        fresh.fill(
            "crossover", settings.crossovers, settings.tries, lambda numbers: _crossover(parents, numbers)
        )
    missing = settings.population - len(fresh.found)
    n = len(space.layers)
    fresh.fill("random", missing, random_tries, lambda numbers: space.drawn(numbers[:n]))
    missing = settings.population - len(fresh.found)
    if repair is not None and missing:
        fresh.fill(
            "repaired",
            missing,
            settings.tries,
            lambda numbers: repair(space.drawn(numbers[:n]), numbers[n:-2]),
        )
    if len(fresh.found) < settings.population and space.size <= RANDOM_TRIES:
        fresh.take(space.every())  # a small space to its last architecture
    return tuple(fresh.found)


def tell(state: State, asked: Sequence[str], scores: Mapping[str, float | None]) -> State:
    """The state after this generation; NaN counts as None, could not be judged."""
    given = [(arch, scores[arch]) for arch in asked]
    known = tuple((arch, None if score is None or score != score else score) for arch, score in given)
    return State(state.generation + 1, state.judged + known)


def search(space: Space, settings: Settings, judge: Judge, legal: Legal = lambda _: True) -> State:
    """All generations; `judge` gives the figures of one, and may know some of them already."""
    state = State()
    while state.generation < settings.generations:
        asked = ask(space, settings, state, legal)
        if not asked:
            break
        state = tell(state, asked, judge(asked))
    return state


class _Fresh:
    """The members of one generation as they are found."""

    def __init__(
        self, space: Space, settings: Settings, legal: Legal, generation: int, seen: set[str]
    ) -> None:
        self.space, self.legal, self.seen = space, legal, seen
        self.key = (settings.seed, generation)
        self.room = settings.population
        self.found: dict[str, None] = {}

    def fill(self, kind: str, n: int, tries: int, made: Callable[[np.ndarray], Choices]) -> None:
        """Add `n` made from numbers (2 x layers + 2,), giving up after `tries` times as many."""
        wanted = len(self.found) + n
        stream, width = stream_key("evolution", *self.key, kind), 2 * len(self.space.layers) + 2
        for attempt in range(tries * n):
            if len(self.found) >= wanted:
                return
            self.take([made(draws(stream, np.array([attempt]), width)[0])])

    def take(self, several: Iterable[Choices]) -> None:
        """Add those that are legal and new, while there is room."""
        for choices in several:
            arch = self.space.encode(choices)
            if len(self.found) >= self.room:
                return
            if arch in self.seen or arch in self.found:
                continue
            if self.space.allows(choices) and self.legal(choices):
                self.found[arch] = None


def _mutant(space: Space, settings: Settings, parents: Sequence[Choices], numbers: np.ndarray) -> Choices:
    parent = parents[int(numbers[-1]) % len(parents)]
    return space.mutated(parent, numbers[:-2], settings.mutation)


def _crossover(parents: Sequence[Choices], numbers: np.ndarray) -> Choices:
    """Each layer from one of two parents, evenly."""
    a, b = parents[int(numbers[-1]) % len(parents)], parents[int(numbers[-2]) % len(parents)]
    return tuple(p if unit(number) < 0.5 else q for p, q, number in zip(a, b, numbers[: len(a)], strict=True))
