"""Every command and every snippet of README and docs/ is run, in the order of its page.

What takes long is run in small: SMALLER says how, and the task is `tiny` where none is named. What a test
cannot run stands in an indented block or in a sentence, and not in a fenced one.
"""

import glob
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from bnrecal import networks
from bnrecal.cli.app import cli
from tests.conftest import Ran
from tests.docs.blocks import PAGES, ROOT, blocks_of, commands_of, name_of
from tests.own_images import write_class_folders

# What is documented, and what is run in its stead. Nothing but sizes may change.
SMALLER = (
    ("2560,5120,10240", "64,128"),
    ("--samples 256,2560", "--samples 64,128"),
    ("--samples 64,1024", "--samples 64,128"),
    ("exact --bs 8,64", "exact --arch arch1 --bs 8"),
    ("--bs 8,16,32,64", "--bs 8,16"),
    ("random:5 --momentum", "random:1 --bs 8 --samples 64 --momentum"),
    ("make_images.py", "make_images.py --per-class 24"),
    ("make_scenes.py", "make_scenes.py --train 128 --val 32"),
    ("python classifier.py", "python classifier.py --epochs 1"),
    ("python slimmable.py", "python slimmable.py --epochs 1"),
    ("python detector.py", "python detector.py --epochs 1"),
    ("--study classifier.toml", "--study classifier.toml --bs 8 --samples 64,128"),
    ("--study slimmable.toml", "--study slimmable.toml --bs 8 --samples 64,128"),
    ("--study detector.toml", "--study detector.toml --bs 8 --samples 64,128"),
    (
        "bnrecal sweep --study norm_batch.toml",
        "bnrecal sweep --study norm_batch.toml --samples 64,128 --estimator pooled",
    ),
    ("random:300", "random:5"),
    ("--estimator pooled --bs 64 --samples 256", "--estimator pooled --bs 8 --samples 128"),
    ("--max-seconds 120", "--max-seconds 120 --estimator pooled"),
    ("--arch all --judge", "--arch random:5 --judge"),
    ("bnrecal recalibrate ", "bnrecal recalibrate --samples 128 "),
    ("--then recalibrate ", "--then recalibrate --samples 128 "),
    ("bnrecal verify --out runs/demo", "bnrecal verify --out runs/demo --sample 1"),
)
# Exit codes besides 0 that the page itself announces.
ENDS = (("bnrecal doctor", {0, 3}), ("--timeout 0.05", {3}))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What pages take for granted: two folders of images, weights, and the small task where none is named."""
    from safetensors.torch import save_file
    from torchvision.models import get_model

    monkeypatch.delenv("BNRECAL_BASELINE", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    monkeypatch.syspath_prepend(".")
    torch.manual_seed(0)
    write_class_folders(tmp_path / "images", n=24, size=32)
    torch.save(get_model("resnet18", weights=None, num_classes=2).state_dict(), tmp_path / "resnet18.pth")
    for name in ("A.safetensors", "B.safetensors"):
        save_file(networks.get().build("arch1").module.state_dict(), tmp_path / name)
    return tmp_path


def smaller(command: str) -> str:
    for said, run in SMALLER:
        command = command.replace(said, run)
    on_images = re.match(r"bnrecal (sweep|advise|recalibrate|doctor|average|rank|search)\b", command)
    is_said = "--task" in command or "--study" in command
    return f"{command} --task tiny" if on_images and not is_said else command


def run(command: str, here: Path, bnrecal: Callable[..., Ran]) -> Path:
    """Run it in `here`; returns the folder that the next command runs in."""
    words = shlex.split(command)
    if words[0] == "cd":
        return here / words[1]
    if words[0] != "bnrecal":
        done = subprocess.run(["bash", "-c", command], cwd=here, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return here
    arguments = [found for word in words[1:] for found in sorted(glob.glob(word, root_dir=here)) or [word]]
    allowed = next((codes for part, codes in ENDS if part in command), {0})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        ran = bnrecal(*arguments)
    assert ran.code in allowed, f"{command}\n{ran.code}\n{ran.out}{ran.err}"
    return here


WITH_COMMANDS = [page for page in PAGES if any(block.language == "sh" for block in blocks_of(page))]
WITH_SNIPPETS = [page for page in PAGES if any(block.language == "python" for block in blocks_of(page))]


# --timeout rings wherever the interpreter is: hypothesis, loaded beside, has a callback of the garbage
# collector, out of which nothing can be raised. The pass is then ended between its batches.
@pytest.mark.filterwarnings("ignore:.*gc_callback.*:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_the_commands_of_a_page(page: Path, folder: Path, bnrecal: Callable[..., Ran]) -> None:
    """One after the other, as a reader types them; each ends as the page says."""
    here = folder
    for block in blocks_of(page):
        if block.language == "sh":
            for command in commands_of(block.text):
                here = run(smaller(command), here, bnrecal)
    for module in ("classifier", "slimmable", "detector"):  # of the page's folder, not of the next one's
        sys.modules.pop(module, None)


def given() -> dict[str, Any]:
    """The names that snippets take for granted: a network, its images, and a metric of the reader's."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    images = TensorDataset(torch.randn(256, 3, 8, 8), torch.randint(2, (256,)))
    loader = DataLoader(images, 32)
    batches = [x for x, _ in loader]
    model(batches[0])

    def share_of_first_class(module: nn.Module, evaluation: Any = None) -> float:
        outputs: list[Tensor] = [module(x) for x, _ in evaluation or loader]
        return float((torch.cat(outputs).argmax(1) == 0).float().mean())

    return {
        "model": model,
        "batches": batches,
        "loader": loader,
        "val_loader": loader,
        "evaluate": share_of_first_class,
        "my_metric": share_of_first_class,
    }


@pytest.mark.parametrize("page", WITH_SNIPPETS, ids=name_of)
def test_the_snippets_of_a_page(page: Path) -> None:
    """They run as they stand, in one session, on a model, batches and a metric of the reader's."""
    names = given()
    for block in blocks_of(page):
        if block.language == "python":
            exec(compile(block.text, name_of(page), "exec"), names)


def test_smaller_runs_are_of_commands_that_are_documented() -> None:
    """No entry of SMALLER is left behind by a page that changed."""
    every = "\n".join(
        command
        for page in WITH_COMMANDS
        for block in blocks_of(page)
        if block.language == "sh"
        for command in commands_of(block.text)
    )
    assert not [said for said, _ in SMALLER if said not in every]


def test_readme_is_short_and_its_first_two_commands_are_those_of_the_makefile() -> None:
    """8 KB at most; `make sweep` and `make test` do what README says they do."""
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.encode()) <= 8_000
    assert re.findall(r"^    (make \w+)", text, re.MULTILINE) == ["make sweep", "make test"]
    make = shutil.which("make")
    assert make
    for target, lines in (
        ("sweep", ["bnrecal sweep", "bnrecal report"]),
        ("test", ["ruff format --check .", "ruff check .", "mypy", "pytest -n 2 --dist worksteal"]),
    ):
        done = subprocess.run(
            [make, "-n", "-B", "--no-print-directory", target],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        said = [line.removeprefix(".venv/bin/") for line in done.stdout.splitlines()]
        assert said[-len(lines) :] == lines


def test_every_command_of_bnrecal_is_in_the_docs() -> None:
    """No command is left out of the pages that are run."""
    told = "\n".join(page.read_text("utf-8") for page in PAGES)
    assert not [name for name in cli.commands if not re.search(rf"bnrecal {name}\b", told)]
