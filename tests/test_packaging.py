"""The wheel and the sdist: what is in them, and that an unpacked wheel does its work outside the checkout."""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

from bnrecal.host.examples import EXAMPLES, files_of

ROOT = Path(__file__).parent.parent
SCRIPT = """
import bnrecal
from torch import Tensor, nn

def loss(model: nn.Module, batches: list[Tensor]) -> float:
    report = bnrecal.recalibrate(model, batches, estimator="pooled", progress=True)
    with bnrecal.recalibrated(model, batches) as inside:
        seconds: float = inside.seconds
    worst = report.shifts[0]
    again: bnrecal.Recalibration = bnrecal.update_bn(batches, model, "cpu", momentum=0.1)
    found: bnrecal.Diagnosis = bnrecal.diagnose(model, batches)
    return seconds + worst.mean + again.images_per_s + len(found.wrong) + len(bnrecal.__version__)
"""
WRONG = """
import bnrecal
n: str = bnrecal.recalibrate(None, []).n_samples
bnrecal.recalibarte
"""


def build(kind: str, source: Path, target: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (made,) = target.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(site)
    return site


def run(site: Path, folder: Path, *command: object) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tracked(*folders: str) -> set[str]:
    """Files of the package that are no compiled leftovers."""
    files = (file for folder in folders for file in (ROOT / folder).rglob("*") if file.is_file())
    return {str(file.relative_to(ROOT)) for file in files if "__pycache__" not in file.parts}


def test_the_wheel_holds_the_whole_package_and_the_examples(wheel: Path) -> None:
    """Code, py.typed, templates, tables, images, weights, examples, licence; no tests and no results."""
    names = set(zipfile.ZipFile(wheel).namelist())
    examples = {f"bnrecal/{file.relative_to(ROOT)}" for name in EXAMPLES for file in files_of(name)}
    assert tracked("bnrecal") | examples <= names
    assert "bnrecal/py.typed" in names
    for kind in (".csv", ".safetensors", ".png", ".html"):
        assert any(kind in name for name in names), kind
    assert any(name.endswith("licenses/LICENSE") for name in names)
    rest = {name.split("/")[0] for name in names}
    assert rest == {"bnrecal", next(name for name in rest if name.endswith(".dist-info"))}


def test_the_sdist_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """What a package index hands out is enough to build from, tests included."""
    archive = build("sdist", ROOT, tmp_path / "sdist")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    source = tmp_path / archive.name.removesuffix(".tar.gz")
    assert (source / "tests/test_packaging.py").is_file()
    again = build("wheel", source, tmp_path / "again")
    assert set(zipfile.ZipFile(again).namelist()) == set(zipfile.ZipFile(wheel).namelist())


def test_an_unpacked_wheel_works_outside_the_checkout(unpacked: Path, tmp_path: Path) -> None:
    """Import, help, the published report and an example, all from the wheel's own files."""
    code = "import bnrecal, torch; print(bnrecal.__file__, bnrecal.__version__, bnrecal.Pooled)"
    home, version, *_ = run(unpacked, tmp_path, "-c", code).split()
    assert Path(home) == unpacked / "bnrecal/__init__.py"
    assert (unpacked / f"bnrecal-{version}.dist-info").is_dir()
    assert "sweep" in run(unpacked, tmp_path, "-m", "bnrecal", "--help")
    assert "0.4847" in run(unpacked, tmp_path, "-m", "bnrecal", "report", "--published")
    for name in EXAMPLES:
        assert run(unpacked, tmp_path, "-m", "bnrecal", "example", name, f"mine/{name}")
        written = {file.name for file in (tmp_path / "mine" / name).iterdir()}
        assert written == {file.name for file in files_of(name)}
    done = run(
        unpacked,
        tmp_path,
        "-m",
        "bnrecal",
        "recalibrate",
        "--task",
        "tiny",
        "--arch",
        "arch1",
        "-o",
        "w.safetensors",
    )
    assert "before" in done


def test_readme_on_a_package_index_leads_to_the_repository(wheel: Path) -> None:
    """Every link is absolute, begins with the project's URL and names a file that is there; pictures too."""
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith("METADATA"))
        told = message_from_string(opened.read(name).decode())
    text = told.get_payload()
    home = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Homepage"]
    raw = home.replace("https://github.com/", "https://raw.githubusercontent.com/")
    links, pictures = (
        re.findall(r"(?<!!)\[[^\]]*\]\(([^)]+)\)", text),
        re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text),
    )
    assert len(links) > 10
    figures = (
        "published_grid/figures/law.svg",
        "small_batches/figures/small-batches.svg",
        "ranking/figures/ranking-by-images.svg",
    )
    assert pictures == [f"{raw}/main/results/{figure}" for figure in figures]
    for link in links + pictures:
        if link.startswith(home) or link in pictures:
            assert (ROOT / link.partition("/main/")[2]).is_file(), link
    assert not [link for link in links if not link.startswith("https://")]
    urls = dict(line.split(", ", 1) for line in told.get_all("Project-URL"))
    assert {url.partition("/bnrecal/bnrecal")[0] for url in urls.values()} == {"https://github.com"}
    assert {"Homepage", "Documentation", "Issues", "Changelog"} == set(urls)


def test_classifiers_are_ones_that_an_index_takes() -> None:
    """Known to trove-classifiers, which the index checks uploads against."""
    from trove_classifiers import classifiers

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    assert len(declared) > 5
    assert set(declared) <= set(classifiers)


def test_the_console_script_is_declared(wheel: Path) -> None:
    """`bnrecal` on the path is the command line's main."""
    with zipfile.ZipFile(wheel) as opened:
        (entry,) = (name for name in opened.namelist() if name.endswith("entry_points.txt"))
        assert "bnrecal = bnrecal.cli:main" in opened.read(entry).decode()
        (metadata,) = (name for name in opened.namelist() if name.endswith("METADATA"))
        told = opened.read(metadata).decode()
    assert "Typing :: Typed" in told
    assert "Provides-Extra: lightning" in told


def test_a_script_against_the_wheel_passes_strict_types(unpacked: Path, tmp_path: Path) -> None:
    """mypy --strict sees the types of an installed wheel, and by them a misspelt name and a wrong type."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    (site,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    (site / "bnrecal").symlink_to(unpacked / "bnrecal")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    for name, text in (("script", SCRIPT), ("wrong", WRONG)):
        (tmp_path / f"{name}.py").write_text(text)

    def mypy(script: str) -> subprocess.CompletedProcess[str]:
        # a cache of its own that stays: reading torch's types takes a minute the first time
        command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"{script}.py"]
        command += ["--python-executable", str(tmp_path / "venv/bin/python")]
        command += ["--cache-dir", str(ROOT / ".mypy_cache/wheel")]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    right = mypy("script")
    assert right.returncode == 0, right.stdout + right.stderr
    wrong = mypy("wrong")
    assert 'Incompatible types in assignment (expression has type "int"' in wrong.stdout
    assert 'has no attribute "recalibarte"' in wrong.stdout


def test_contributing_names_files_that_exist() -> None:
    """Every path that CONTRIBUTING.md gives to copy from, and every table that it says to enter in."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    paths = re.findall(r"`((?:bnrecal|tests|experiments|docs|results)/[\w/.]*)`", text)
    assert len(paths) > 20
    assert not [path for path in paths if not (ROOT / path).exists()]
    for table, home in (
        ("ESTIMATORS", "bnrecal/recalibration/estimators.py"),
        ("ESTIMATORS", "bnrecal/study/axes.py"),
        ("OPENERS", "bnrecal/tasks/opening.py"),
        ("NORMS", "bnrecal/norms/kinds.py"),
        ("FORMATS", "bnrecal/cli/report.py"),
        ("CHECKS", "bnrecal/doctor/diagnose.py"),
        ("EXAMPLES", "bnrecal/host/examples.py"),
    ):
        assert f"`{table}`" in text
        assert re.search(rf"^{table}\b", (ROOT / home).read_text(), re.MULTILINE), home


def test_the_citation_and_the_changelog_know_the_version() -> None:
    """One version, in pyproject.toml; what repeats it agrees."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert version in (ROOT / "CHANGELOG.md").read_text()
