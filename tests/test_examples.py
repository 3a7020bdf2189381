"""The examples under experiments/own_network, run as their headings say, with less training."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bnrecal.store.store import Store

EXAMPLES = Path(__file__).parent.parent / "experiments/own_network"


def run(*command: object) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("name", "n_archs"), [("classifier", 1), ("slimmable", 5)])
def test_an_example_from_images_to_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, n_archs: int
) -> None:
    """Images, training, sweep: every cell of the study file, and better than guessing once calibrated."""
    for file in EXAMPLES.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    run(sys.executable, "make_images.py", "--per-class", 30)
    run(sys.executable, f"{name}.py", "--epochs", 6)
    run(sys.executable, "-m", "bnrecal", "sweep", "--study", f"{name}.toml", "--samples", "64,256")
    rows = Store(Path("results")).rows()
    assert len(rows) == 8 * n_archs
    assert all(row["status"] == "done" for row in rows)
    assert len({row["arch"] for row in rows}) == n_archs
    best = max(row["eval"] for row in rows if row["estimator"] == "pooled")
    assert best > 0.3  # ten classes


def test_a_study_that_trains_needs_images_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine networks trained by norm_batch.toml, each evaluated as it stands and re-estimated."""
    for file in EXAMPLES.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    text = Path("norm_batch.toml").read_text().replace("512, 1920", "256").replace("epochs = 4", "epochs = 1")
    Path("norm_batch.toml").write_text(text)
    run(sys.executable, "make_images.py", "--per-class", 30)
    run(sys.executable, "-m", "bnrecal", "sweep", "--study", "norm_batch.toml", "--baseline")
    rows = Store(Path("results")).evaluated()
    assert len(rows) == 9 * 5
    assert all(row["status"] == "done" for row in rows)
    assert {row["recipe"]["norm_batch"] for row in rows} == {2, 8, 64}


def test_the_study_of_small_batches_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """small_batches.toml: every norm at every norm batch it has; EvalNorm's networks are BatchNorm's to the
    bit, and what has no statistics has no re-estimated cell. Its report draws the figure.
    """
    for file in EXAMPLES.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    study = Path("small_batches.toml")
    shorter = {
        "1024": "256",
        "epochs = 4": "epochs = 1",
        "burn_in = 2 ": "burn_in = 0.5 ",
        "[0, 1, 2]": "[0]",
    }
    text = study.read_text()
    for old, new in shorter.items():
        assert old in text
        text = text.replace(old, new)
    study.write_text(text)
    run(sys.executable, "make_images.py", "--per-class", 30)
    run(sys.executable, "-m", "bnrecal", "sweep", "--study", study)
    rows = Store(Path("results")).rows()
    assert all(row["status"] == "done" for row in rows)
    weights = {
        (row["recipe"].get("norm", "bn"), row["recipe"].get("norm_batch")): row["weights_sha256"]
        for row in rows
        if row.get("kind") == "train"
    }
    assert len(weights) == 5 * 3 + 3
    for size in (2, 8, 64):
        assert weights["evalnorm", size] == weights["bn", size]
    estimated = {row["recipe"].get("norm", "bn") for row in rows if row.get("estimator") == "pooled"}
    assert estimated == {"bn", "evalnorm", "brn", "cbn", "naive-cbn"}
    run(sys.executable, "-m", "bnrecal", "report", "--figures", "figures")
    assert Path("figures/small-batches.png").exists()


def test_the_study_of_averages_in_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands, as the head of averaged.toml has them: trained, averaged each way, evaluated, a table."""
    monkeypatch.chdir(tmp_path)
    run(sys.executable, EXAMPLES / "make_images.py", "--per-class", 20)
    Path("images").rename("cifar10")
    Path("cifar10/val").rename("cifar10/test")
    run(sys.executable, "-m", "bnrecal", "example", "averaging", "averaging")
    monkeypatch.chdir("averaging")
    run(sys.executable, "train.py", "--epochs", 2, "--seeds", 2, "--every", 1)
    trained = Path("trained")
    made = {path.relative_to(trained).as_posix() for path in trained.rglob("*.safetensors")}
    averages = ["last", *(f"ema-{d}" for d in (0.9, 0.99, 0.999, 0.9997)), "mean-2", "mean-4"]
    assert made == {
        f"{s}/{k}/{a}.safetensors" for s in ("constant", "cosine") for k in (0, 1) for a in averages
    }
    for name, samples in (("averaged", "64"), ("copied", "64")):
        study = ("--study", f"{name}.toml", "--samples", samples, "--out", name)
        run(sys.executable, "-m", "bnrecal", "sweep", *study)
    as_averaged, as_copied = (Store(Path(name)).evaluated() for name in ("averaged", "copied"))
    assert len(as_averaged) == 2 * len(made)
    assert len(as_copied) == len(made) - 4  # the weights trained last have nothing copied
    digests = {row["arch"]: row["weights_digest"] for row in as_averaged}
    assert all(row["weights_digest"] != digests[row["arch"]] for row in as_copied)
    run(sys.executable, "table.py", "averaged", "copied", "-o", "table.md")
    lines = Path("table.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in lines if line.startswith("| ema-0.99 ")] == [
        "ema-0.99"
    ] * 2
