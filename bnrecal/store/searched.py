"""A search beside its rows: who was asked for in which generation; what came of each stands in the rows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bnrecal.errors import BnrecalError
from bnrecal.host.files import write_whole

NAME = "search.json"


@dataclass(frozen=True)
class Member:
    """An architecture that was asked for: the key of its row, and what it costs."""

    arch: str
    key: str
    flops: int
    params: int


@dataclass(frozen=True)
class Search:
    """`judge` as a ranking names it, `bounds` by kind of cost; of method "exact" there is one generation.

    `forbidden` as it was written, "LAYER:CHOICE"; `n_front` of a trade-off whose first alone are kept;
    `n_space` architectures there are without forbidden choices; `ended` is None in older files.
    """

    judge: str
    method: str  # "evolution" or "exact"
    bounds: Mapping[str, int]
    settings: Mapping[str, Any]
    generations: tuple[tuple[Member, ...], ...] = ()
    forbidden: Sequence[str] = ()
    n_front: int = 0
    n_space: int = 0
    ended: bool | None = False


def keep_search(out: Path, search: Search) -> None:
    """Write OUT/search.json whole."""
    try:
        write_whole(out / NAME, (json.dumps(asdict(search), indent=0) + "\n").encode())
    except OSError as error:
        raise BnrecalError(f"--out: cannot write to {out}: {error.strerror}") from None


def keys_of_search(out: Path) -> set[str]:
    """Keys of the rows that the last search of this folder asked for."""
    found = kept_search(out)
    return set() if found is None else {member.key for of in found.generations for member in of}


def kept_search(out: Path) -> Search | None:
    """The last search of this folder, if there was one. Raises BnrecalError for a damaged file."""
    path = out / NAME
    try:
        found = json.loads(path.read_text("utf-8"))
        generations = tuple(tuple(Member(**one) for one in members) for members in found.pop("generations"))
        return Search(**{"ended": None, **found}, generations=generations)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise BnrecalError(f"{path}: damaged; the same `bnrecal search` writes it again") from None
