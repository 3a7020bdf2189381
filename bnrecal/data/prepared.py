"""That images are scaled otherwise than in training, as data and in words (found by measure/prepared.py).

Torch-free, so that reports say it from rows alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from bnrecal.data.normalisations import MeanStd, options, words


@dataclass(frozen=True)
class Better:
    """Another normalisation, under which the network's first statistics fit far better."""

    name: str
    value: MeanStd
    distance: float
    given: MeanStd
    given_distance: float

    @property
    def evidence(self) -> str:
        return (
            f"the first BatchNorms' statistics are {self.given_distance:.2f} from those of these images "
            f"({words(self.given)}), and {self.distance:.2g} with {words(self.value)} ({self.name})"
        )

    @property
    def remedy(self) -> str:
        return f"prepare the images with {words(self.value)}: {options(self.value)}"


@dataclass(frozen=True)
class Prepared:
    """Images scaled so that they would fit the network's statistics far better, and what the metric says."""

    better: Better
    now: float
    then: float

    def __str__(self) -> str:
        return f"{self.why}; {self.better.remedy}"

    @property
    def why(self) -> str:
        return f"{self.better.evidence}; metric {self.now:.4f} as they are, {self.then:.4f} then"

    @property
    def sentence(self) -> str:
        """What to do before anything else."""
        return f"First {self.better.remedy}. The reason: {self.why}."

    def facts(self) -> dict[str, Any]:
        """What a row keeps of it: JSON, to be read by `of`."""
        found, (mean, std), (given_mean, given_std) = self.better, self.better.value, self.better.given
        return {
            **{"name": found.name, "mean": list(mean), "std": list(std), "distance": found.distance},
            **{"given_mean": list(given_mean), "given_std": list(given_std)},
            **{"given_distance": found.given_distance, "now": self.now, "then": self.then},
        }

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        value = tuple(facts["mean"]), tuple(facts["std"])
        given = tuple(facts["given_mean"]), tuple(facts["given_std"])
        better = Better(facts["name"], value, facts["distance"], given, facts["given_distance"])
        return cls(better, facts["now"], facts["then"])
