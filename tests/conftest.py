"""Shared by all tests: a scene cache of their own, and the command line run in this process."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import settings

settings.register_profile("bnrecal", deadline=None)  # a slow example is no failure on a busy machine
settings.load_profile("bnrecal")


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("BNRECAL_")]:
        del os.environ[name]
    # Most tests count the cells of a grid; tests/sweep/test_baseline.py is about those beside it.
    os.environ["BNRECAL_BASELINE"] = "no"
    os.environ["BNRECAL_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  at 15, Ray's own, they starve on a busy machine
    torch.set_num_threads(1)  # two test processes share two cores
    yield
    os.environ.clear()
    os.environ.update(before)


@dataclass(frozen=True)
class Ran:
    """What a command gave."""

    code: int
    out: str
    err: str


@pytest.fixture
def bnrecal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Ran]:
    """Runs `bnrecal ARGUMENTS` in an empty folder and returns exit code, stdout and stderr."""
    from bnrecal.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["bnrecal", *map(str, arguments)])
        capsys.readouterr()
        environment = dict(os.environ)  # which options of the cache change
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            os.environ.clear()
            os.environ.update(environment)
        captured = capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int) or code is None
        return Ran(code or 0, captured.out, captured.err)

    return run
