"""What the shell is offered; asked as bash asks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def offered(line: str) -> list[str]:
    """What bash gets for this line, its last word (which may be empty) being typed."""
    words = line.split(" ")
    code = (
        "import sys; sys.argv[0] = 'bnrecal'\n"
        "from bnrecal.cli import main\n"
        "try: main()\n"
        "finally: assert not {'torch', 'pandas'} & set(sys.modules)"
    )
    asked = {"_BNRECAL_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("bnrecal re", ["plain,report", "plain,recalibrate"]),
        (
            "bnrecal sweep --estimator ",
            [f"plain,{name}" for name in ("ema", "cumulative", "pooled", "exact", "stored")],
        ),
        (
            "bnrecal sweep --estimator ema,",
            [f"plain,ema,{name}" for name in ("cumulative", "pooled", "exact", "stored")],
        ),
        ("bnrecal sweep --arch arch1,arch", ["plain,arch1,arch2", "plain,arch1,arch3"]),
        ("bnrecal sweep --model timm:resnet18 --arch ", []),
        ("bnrecal advise --task f", ["plain,fashion-mnist"]),
        ("bnrecal sweep --only b", ["plain,batch_size=", "plain,bs="]),
        ("bnrecal sweep --executor l", ["plain,local"]),
        ("bnrecal report --format la", ["plain,latex"]),
        ("bnrecal report res", ["file,res"]),
        ("bnrecal doctor --weights we", ["file,we"]),
    ],
)
def test_values_are_completed_without_torch(line: str, words: list[str]) -> None:
    """Commands, names known beforehand, and files; in a comma list the last item, each name once."""
    assert sorted(offered(line)) == sorted(words)


def test_the_tasks_offered_are_those_there_are() -> None:
    """All of them, from the one table."""
    from bnrecal.tasks import NAMES

    assert offered("bnrecal sweep --task ") == [f"plain,{name}" for name in NAMES]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_lines_of_the_manual_give_a_script(shell: str) -> None:
    """What docs/command-line.md has people write into their shell's file."""
    code = "import sys; sys.argv[0] = 'bnrecal'; from bnrecal.cli import main; main()"
    asked = {**os.environ, "_BNRECAL_COMPLETE": f"{shell}_source"}
    done = subprocess.run([sys.executable, "-c", code], env=asked, capture_output=True, text=True)
    assert done.returncode == 0
    assert f"_BNRECAL_COMPLETE={shell}_complete" in done.stdout
    manual = (Path(__file__).parents[2] / "docs/command-line.md").read_text()
    assert f"_BNRECAL_COMPLETE={shell}_source bnrecal" in manual
