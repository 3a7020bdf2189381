"""Mutated files through the whole command line: what may come out is an answer or one clear line.

Also watches every file the process opens to write, makes, moves or removes.
"""

import io
import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# What people and programs put where a number or a name should be.
ODD_VALUES = (
    *(None, True, -1, 0, 1.5, 10**30, 1e308, float("nan"), float("inf"), "", "x", "\x00", "../../etc/passwd"),
    *(
        "/",
        "é" * 500,
        "\ud800",
        "=cmd|' /C calc'!A0",
        "<script>",
        "\x1b[2J",
        [],
        {},
        [[]],
        {"a": []},
        "1e999",
    ),
)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """`data` with one to three bytes or stretches changed, or a field of a JSON line replaced."""
    if rng.random() < 0.5 and (with_field := _field_replaced(data, rng)) is not None:
        return with_field
    result = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(result) + 1)
        length = rng.choice((1, 1, 1, 2, 16, 200))
        kind = rng.randrange(5)
        if kind == 0:
            result[at : at + length] = rng.randbytes(min(length, len(result) - at))
        elif kind == 1:
            del result[at : at + length]
        elif kind == 2:
            result[at:at] = rng.choice(
                (b"\n", b"\x00", b'"', b"{", b"[" * 300, b"9" * 50, b"\xff", b"-", b"'")
            )
        elif kind == 3:
            other = rng.randrange(len(result) + 1)
            result[at:at] = result[other : other + length]
        else:
            del result[at:]
    return bytes(result)


def _field_replaced(data: bytes, rng: random.Random) -> bytes | None:
    lines = data.splitlines()
    k = rng.randrange(len(lines)) if lines else 0
    try:
        document = json.loads(lines[k] if len(lines) > 1 else data)
    except (ValueError, IndexError):
        return None
    _replace_somewhere(document, rng)
    new = json.dumps(document).encode()
    return b"\n".join([*lines[:k], new, *lines[k + 1 :]]) + b"\n" if len(lines) > 1 else new


def _replace_somewhere(document: Any, rng: random.Random) -> None:
    """Replace, remove or add a value at a random place of a JSON document."""
    while isinstance(document, dict | list) and document:
        name = rng.choice(list(document)) if isinstance(document, dict) else rng.randrange(len(document))
        if isinstance(document[name], dict | list) and document[name] and rng.random() < 0.8:
            document = document[name]
            continue
        if rng.random() < 0.2:
            del document[name]
        else:
            document[name] = rng.choice(ODD_VALUES)
        return


@dataclass
class Watch:
    """Where this process wrote, outside of the folders it may write to."""

    allowed: tuple[Path, ...]
    strayed: set[str] = field(default_factory=set)
    on: bool = False

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            path, _, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            paths = [path] if writes else []
        elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod"):
            paths = [arguments[0]]
        elif event in ("os.rename", "os.link", "os.symlink"):
            paths = list(arguments[:2])
        else:
            return
        for path in paths:
            if isinstance(path, str | bytes | os.PathLike):
                self.strayed |= self._astray(os.path.realpath(os.fsdecode(path)))

    def _astray(self, path: str) -> set[str]:
        inside = any(path == str(root) or path.startswith(f"{root}/") for root in self.allowed)
        return set() if inside or path == "/dev/null" or "__pycache__" in path else {path}


@contextmanager
def watching(*allowed: Path) -> Iterator[Watch]:
    """Audits file operations of this process in here; the hook itself stays, as hooks do."""
    watch = Watch(tuple(Path(os.path.realpath(path)) for path in allowed))
    sys.addaudithook(watch.hear)
    watch.on = True
    try:
        yield watch
    finally:
        watch.on = False


def run(*arguments: object) -> tuple[int, str]:
    """`bnrecal ARGUMENTS` in this process: exit code and stderr; a bug raises with its traceback."""
    from bnrecal.cli import main

    before, sys.argv = sys.argv, ["bnrecal", *map(str, arguments)]
    err = io.StringIO()
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(err):
            main()
    except SystemExit as ended:
        return int(ended.code or 0), err.getvalue()
    finally:
        sys.argv = before
    raise AssertionError("main returned")


def fuzz(
    path: Path,
    commands: tuple[tuple[object, ...], ...],
    n: int,
    seed: int,
    check: Callable[[int, str], None] | None = None,
) -> dict[int, int]:
    """Mutate the file at `path` n times and run a command on each; counts of the exit codes.

    Raises AssertionError, naming the seed, for an exit code that is not an answer or clear refusal.
    """
    original = path.read_bytes()
    codes: dict[int, int] = {}
    try:
        for k in range(n):
            rng = random.Random(f"{seed} {k}")
            path.write_bytes(mutated(original, rng))
            command = commands[k % len(commands)]
            try:
                code, err = run(*command)
            except Exception as error:
                raise AssertionError(
                    f"{path.name}, seed {seed} {k}: {' '.join(map(str, command))}"
                ) from error
            assert code in (0, 2, 3), (k, code, err)
            if code == 2:
                lines = [line for line in err.splitlines() if not line.startswith("note: ")]
                assert len(lines) == 1, (k, err)
            codes[code] = codes.get(code, 0) + 1
    finally:
        path.write_bytes(original)
    return codes
