"""A search space: layers, the choices of each, and how an architecture is written. Imports no torch."""

import functools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from bnrecal.data.draws import UInt64s, draws, stream_key
from bnrecal.errors import BnrecalError, unknown_choice

Choices = tuple[int, ...]  # the choice of each layer, counted from 0

_MOST_TRIES = 1000  # draws per architecture asked for, before a condition counts as unfulfillable


@dataclass(frozen=True)
class Space:
    """Every way to take one choice in each layer.

    `layers[l][c]` is how choice c of layer l is written; an architecture is these texts joined by
    `separator`. Without a separator every text of a layer must have the same length. `named` gives some
    architectures a second name. `forbidden` holds (layer, choice) pairs that no draw, neighbour or search
    takes; an architecture with one can still be written and read.
    """

    layers: tuple[tuple[str, ...], ...]
    separator: str = "-"
    named: Mapping[str, str] = field(default_factory=dict)
    forbidden: frozenset[tuple[int, int]] = frozenset()

    def __post_init__(self) -> None:
        if not self.layers or not all(self.layers):
            raise BnrecalError("search space: needs at least one layer, and a choice in each")
        for at, texts in enumerate(self.layers):
            if len(set(texts)) < len(texts):
                raise BnrecalError(f"search space: layer {at} has a choice twice: {', '.join(texts)}")
            if not all(texts) or (self.separator and any(self.separator in text for text in texts)):
                raise BnrecalError(
                    f"search space: layer {at}: {', '.join(map(repr, texts))}; a choice must be written, and "
                    f"without {self.separator!r}"
                )
            if not self.separator and len({len(text) for text in texts}) > 1:
                raise BnrecalError(
                    f"search space: layer {at}: choices of different lengths cannot be told apart without a "
                    "separator"
                )
        for at in range(len(self.layers)):
            if not self.allowed[at]:
                raise BnrecalError(f"search space: every choice of layer {at} is forbidden")

    @functools.cached_property
    def allowed(self) -> tuple[Choices, ...]:
        """The choices of each layer that are not forbidden."""
        return tuple(
            tuple(c for c in range(len(texts)) if (at, c) not in self.forbidden)
            for at, texts in enumerate(self.layers)
        )

    @property
    def size(self) -> int:
        """Architectures without a forbidden choice."""
        return math.prod(map(len, self.allowed))

    def encode(self, choices: Iterable[int]) -> str:
        """How the architecture is written."""
        return self.separator.join(texts[choice] for texts, choice in zip(self.layers, choices, strict=True))

    def decode(self, arch: str, place: str = "--arch") -> Choices:
        """The choices of a written architecture. Raises BnrecalError if there is no such one."""
        written = self.named.get(arch, arch)
        texts = written.split(self.separator) if self.separator else self._cut(written)
        if len(texts) != len(self.layers) or any(
            t not in of for t, of in zip(texts, self.layers, strict=True)
        ):
            raise BnrecalError(f"{place}: unknown architecture {arch!r}; valid: {self._valid()}")
        return tuple(of.index(text) for text, of in zip(texts, self.layers, strict=True))

    def allows(self, choices: Choices) -> bool:
        """Whether none of its choices is forbidden."""
        return not any(pair in self.forbidden for pair in enumerate(choices))

    def without(self, texts: Iterable[str], place: str = "--forbid") -> "Space":
        """The space with more choices forbidden, each "LAYER:CHOICE", such as "0:identity".

        A layer is its number, counted from 0, or "*" for all layers that have such a choice. Raises
        BnrecalError for another form, a layer or choice there is not, and a layer left without any.
        """
        found = set(self.forbidden)
        for text in texts:
            layer, colon, choice = text.partition(":")
            if not colon or not (layer == "*" or (layer.isascii() and layer.isdigit())):
                raise BnrecalError(f"{place}: {text!r}; allowed: LAYER:CHOICE, such as 0:{self.layers[0][0]}")
            if layer != "*" and int(layer) >= len(self.layers):
                raise BnrecalError(f"{place}: {text!r}: layers are 0 to {len(self.layers) - 1}")
            chosen = range(len(self.layers)) if layer == "*" else (int(layer),)
            pairs = {(at, self.layers[at].index(choice)) for at in chosen if choice in self.layers[at]}
            if not pairs:
                known = dict.fromkeys(t for at in chosen for t in self.layers[at])
                raise unknown_choice("choice", choice, known, f"{place}: {text}")
            found |= pairs
        return replace(self, forbidden=frozenset(found))

    def every(self) -> Iterator[Choices]:
        """All architectures without a forbidden choice, in the order of their choices."""
        ends: list[Choices] = [()]
        for at, options in enumerate(self.allowed):
            if at == len(self.allowed) - 1:
                yield from ((*begun, c) for begun in ends for c in options)
                return
            ends = [(*begun, c) for begun in ends for c in options]

    def neighbours(self, choices: Choices) -> Iterator[Choices]:
        """Those that differ in one layer, in the order of layers and choices."""
        for at, options in enumerate(self.allowed):
            yield from ((*choices[:at], c, *choices[at + 1 :]) for c in options if c != choices[at])

    def drawn(self, numbers: UInt64s) -> Choices:
        """A uniform architecture from one raw 64-bit number a layer, shape (layers,)."""
        return tuple(
            options[int(number) % len(options)] for options, number in zip(self.allowed, numbers, strict=True)
        )

    def mutated(self, choices: Choices, numbers: UInt64s, probability: float) -> Choices:
        """Each layer with `probability` drawn anew (it may come out as it was); numbers (2 x layers,)."""
        n = len(self.layers)
        anew = self.drawn(numbers[n:])
        return tuple(
            fresh if unit(number) < probability else old
            for fresh, old, number in zip(anew, choices, numbers[:n], strict=True)
        )

    def random(
        self,
        n: int,
        seed: int,
        excluded: Collection[str] = (),
        accept: Callable[[Choices], bool] = lambda _: True,
    ) -> tuple[str, ...]:
        """`n` different architectures, uniform among those that `accept` lets through, none of `excluded`.

        Raises BnrecalError if there are not so many, or if fewer than one draw in 1,000 is accepted.
        """
        left = self.size - sum(self.allows(self.decode(arch)) for arch in set(excluded))
        if n > left:
            raise BnrecalError(f"--arch: random:{n}: there are {left:,} architectures")
        stream, found, at = stream_key("random-arch", seed), dict[str, None](), 0
        while len(found) < n:
            if at > _MOST_TRIES * n:
                raise BnrecalError(
                    f"--arch: random:{n}: {at:,} draws gave {len(found)} architectures within the bounds"
                )
            for numbers in draws(stream, np.arange(at, at + n), len(self.layers)):
                choices = self.drawn(numbers)
                arch = self.encode(choices)
                if arch not in excluded and accept(choices):
                    found[arch] = None
            at += n
        return tuple(found)[:n]

    def _cut(self, written: str) -> list[str]:
        """Texts of fixed length one after another."""
        found, at = [], 0
        for texts in self.layers:
            found.append(written[at : at + len(texts[0])])
            at += len(texts[0])
        return found if at == len(written) else []

    def _valid(self) -> str:
        example = self.encode(options[-1] for options in self.allowed)
        if len(set(self.layers)) == 1:
            choices = f"{len(self.layers)} choices of {', '.join(self.layers[0])}"
        else:
            choices = f"a choice for each of {len(self.layers)} layers"
        joined = f" joined by {self.separator!r}" if self.separator else ""
        return f"{''.join(f'{name}, ' for name in self.named)}{choices}{joined}, such as {example}"


def unit(number: np.uint64) -> float:
    """A raw 64-bit number as a float in [0, 1): its upper 53 bits."""
    return (int(number) >> 11) / 2**53
