"""The package's face: its names, its version, and an example under each of them that runs."""

import doctest
import subprocess
import sys
from importlib.metadata import version
from types import ModuleType

import pytest

import bnrecal


@pytest.mark.parametrize("name", bnrecal.__all__)
def test_every_public_name_has_an_example_that_runs(name: str) -> None:
    """help(bnrecal.NAME) shows at least one example, and each gives what it says."""
    public = getattr(bnrecal, name)
    where = public if isinstance(public, ModuleType) else sys.modules[public.__module__]
    found = doctest.DocTestFinder(recurse=False).find(public, name, module=where, globs=dict(vars(where)))
    assert sum(len(test.examples) for test in found) > 0
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in found:
        said: list[str] = []
        runner.run(test, out=said.append)
        assert not said, "".join(said)


def test_dir_shows_the_public_names_and_the_version() -> None:
    """Names are imported when first used, and yet listed before."""
    assert {*bnrecal.__all__, "__version__"} <= set(dir(bnrecal))
    assert bnrecal.__version__ == version("bnrecal")
    with pytest.raises(AttributeError, match="'bnrecal' has no attribute 'nothing'"):
        _ = bnrecal.nothing


def test_the_face_alone_imports_no_torch() -> None:
    """Its names and version are there before torch is."""
    code = "import sys, bnrecal; dir(bnrecal), bnrecal.__version__; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
