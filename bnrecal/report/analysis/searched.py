"""What a search has found, from its file and its rows alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bnrecal.report.analysis.judged import judges_of
from bnrecal.report.analysis.wording import counted
from bnrecal.search.evolution import RANDOM_TRIES
from bnrecal.store.rows import Row, is_evaluated
from bnrecal.store.searched import Member, Search

EXHAUSTED = RANDOM_TRIES  # a space no larger is taken whole where random draws find too few


@dataclass(frozen=True)
class Candidate:
    """An architecture with its score, and the generation that asked for it, counted from 1."""

    arch: str
    score: float
    flops: int
    params: int
    generation: int


@dataclass(frozen=True)
class Searched:
    """`judged`: whoever has a score, in the order asked for. `best`: the highest first."""

    search: Search
    judged: tuple[Candidate, ...]
    n_failed: int
    costs: Mapping[str, tuple[int, float]]  # by judge: how many figures, and the seconds they took
    is_measured: bool = False  # scores are a metric on images

    @property
    def n_space(self) -> int:
        """Architectures of the space without forbidden choices; older files do not say."""
        return self.search.n_space or EXHAUSTED + 1

    @property
    def best(self) -> list[Candidate]:
        """Of equal ones whoever was asked for first."""
        return sorted(self.judged, key=lambda one: -one.score)

    @property
    def progress(self) -> list[tuple[float, float]]:
        """By generation: (the best so far, the median of the generation)."""
        found, best = [], float("-inf")
        for at in range(1, len(self.search.generations) + 1):
            scores = sorted(one.score for one in self.judged if one.generation == at)
            if scores:
                best = max(best, scores[-1])
                middle = len(scores) // 2
                median = scores[middle] if len(scores) % 2 else (scores[middle - 1] + scores[middle]) / 2
                found.append((best, median))
        return found

    @property
    def front(self) -> list[Candidate]:
        """Who has a score that nobody reaches at no more FLOPs; cheapest first."""
        found: list[Candidate] = []
        for one in sorted(self.judged, key=lambda one: (one.flops, -one.score)):
            if not found or one.score > found[-1].score:
                found.append(one)
        return found

    @property
    def says(self) -> str:
        """How the search was made, in a sentence."""
        n, search = len(self.judged), self.search
        within = ", ".join(f"{kind} at most {bound:,}" for kind, bound in search.bounds.items())
        bounds = f" within {within}" if within else ""
        bounds += f" without {', '.join(search.forbidden)}" if search.forbidden else ""
        if search.method == "exact":
            if n == 1:
                return f"The exact optimum of {search.judge}{bounds}."
            cut = search.n_front > len(search.generations[0])
            said = f"{n:,} of {search.n_front:,} architectures" if cut else counted(n, "architecture")
            return f"The exact optimum of {search.judge}{bounds}, and the trade-off below it: {said}."
        of = counted(len(search.generations), "generation")
        return f"{counted(n, 'architecture')} of {of} judged by {search.judge}{bounds}."

    @property
    def notes(self) -> list[str]:
        """What to know of these figures."""
        found, search = [], self.search
        if self.n_failed:
            found.append(f"{self.n_failed:,} could not be judged")
        n, wanted = len(search.generations), search.settings.get("generations", 0)
        population = search.settings.get("population", 0)
        short = [at for at, of in enumerate(search.generations, 1) if len(of) < population]
        if search.ended and not short and n < wanted:
            short = [n + 1]  # nobody was left to fill it
        within = " within the bounds" if search.bounds else ""
        if search.ended is False:
            found.append(
                f"it has not ended: {n} of {counted(wanted, 'generation')}; the same command goes on"
            )
        elif short and self.n_space <= EXHAUSTED:
            better = "" if self.n_failed else ", so there is no better one"
            found.append(f"every architecture{within} was {'tried' if self.n_failed else 'judged'}{better}")
        elif short:
            found.append(
                f"from generation {short[0]} on fewer than {population} were found that are new"
                + (f" and{within}" if within else "")
            )
        if self.is_measured and len(self.judged) > 1:
            found.append(
                "these scores are of the images that the search went by, and the best of many owes some of "
                "its to chance; evaluate whom you choose on other images"
            )
        return found


def searched_of(search: Search, rows: Sequence[Row]) -> Searched:
    """`rows`: the latest of each key."""
    by_key = {row["key"]: row for row in rows}
    judged, n_failed, mine = [], 0, []
    for generation, members in enumerate(search.generations, 1):
        for member in members:
            row = by_key.get(member.key)
            if row is None or row["status"] != "done":
                n_failed += 1
                continue
            mine.append(row)
            judged.append(_candidate(member, row, generation))
    costs = {judge.name: (len(judge.values), judge.seconds) for judge in judges_of(mine)}
    return Searched(search, tuple(judged), n_failed, costs, any(map(is_evaluated, mine)))


def _candidate(member: Member, row: Row, generation: int) -> Candidate:
    score = float(row["eval"] if is_evaluated(row) else row["score"])
    return Candidate(member.arch, score, member.flops, member.params, generation)
