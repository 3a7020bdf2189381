"""The studies of rankings in small: their scripts, and that their files are studies."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from bnrecal.study.recipes import recipes_of
from bnrecal.study.study import make_study, read_study_file
from bnrecal.train.recipe_file import read_recipe
from tests.own_images import write_class_folders

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
MACRO = EXPERIMENTS / "nas_bench_macro"


def script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"study_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(folder: Path, *command: object) -> str:
    environment = {**os.environ, "PYTHONPATH": str(EXPERIMENTS.parent)}
    words = [sys.executable, *map(str, command)]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "file", [MACRO / "ranking.toml", EXPERIMENTS / "bn_nas.toml", EXPERIMENTS / "bn_nas_alone.toml"]
)
def test_the_files_are_studies(file: Path) -> None:
    """Every field is known and every recipe stands."""
    study = make_study(read_study_file(file))
    tables = (study.train,) if isinstance(study.train, dict) else study.train or ()
    assert all(recipes_of(table) for table in tables)


@pytest.mark.parametrize("name", ["uniform", "fair", "bn_only"])
def test_the_supernets_recipes_are_recipes(name: str) -> None:
    """As much work each: six epochs by one path, two by three. Of another length: nothing else differs."""
    found = read_recipe(MACRO / f"{name}.toml")
    paths = 3 if found.recipe.sampling == "fair" else 1
    assert found.recipe.epochs * paths == 6
    assert found.inputs["model"] == "supernet:supernet"
    lengths = {"1": 1, "2": 2, "long": 20}
    for file in MACRO.glob(f"{name}_*.toml"):
        other = read_recipe(file)
        epochs = lengths[file.stem.removeprefix(f"{name}_")]
        assert other == replace(found, recipe=found.recipe.model_copy(update={"epochs": epochs}))


def test_architectures_of_the_study_are_different_networks() -> None:
    """Each is its own first name; 3,969 there are."""
    names = run(MACRO, "archs.py", 300).strip().split(",")
    assert len(set(names)) == 300
    whole = script(MACRO / "supernet.py")
    assert all(whole.canonical(name) == name for name in names)
    assert len(run(MACRO, "archs.py", 3969).split(",")) == 3969


def test_the_distance_of_epochs() -> None:
    """0 for the same order, 1 for the reverse in every layer, between for one layer turned."""
    bn_nas = script(EXPERIMENTS / "bn_nas.py")
    up, down = [0.1, 0.2, 0.3], [0.3, 0.2, 0.1]
    found = bn_nas.distances([[up, up], [[1, 2, 3], [4, 5, 6]], [down, down], [up, down]])
    assert np.allclose(found[0], [0, 0, 1, np.sqrt(0.5)])
    assert np.allclose(found, found.T)


def test_heat_of_a_training_by_itself(tmp_path: Path) -> None:
    """A folder of `bnrecal train` has a log and no rows: a panel of its own."""
    (tmp_path / "trained").mkdir()
    lines = [json.dumps({"bn_indicator": [[1, 2, 3], [3, 2, k]]}) for k in (1, 4)]
    (tmp_path / "trained/log.jsonl").write_text("\n".join(lines))
    said = run(tmp_path, EXPERIMENTS / "bn_nas.py", "heat", "trained", "--figures", "drawn")
    assert {Path(line).name for line in said.split()} == {"heat-of-trainings.svg", "heat-of-trainings.png"}


def test_from_images_to_the_answer(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """A part of the images, a ranking of the space at two counts of images, the table and its figure."""
    for file in MACRO.glob("*.py"):
        shutil.copy(file, tmp_path)
    write_class_folders(tmp_path / "images", n=20, size=16)
    run(tmp_path, "few.py", "images/val", "some", 5)
    assert len(list((tmp_path / "some").glob("*/*"))) == 10
    archs = run(tmp_path, "archs.py", 10).strip()
    truth = {
        arch: {"mean_acc": float(at), "test_acc": [at, at + 0.5]} for at, arch in enumerate(archs.split(","))
    }
    (tmp_path / "true.json").write_text(json.dumps(truth))
    settings = ("--task", "imagefolder", "--calibration", "images/train", "--evaluation", "some")
    options = ("--image-size", "16", "--model", "supernet:supernet", "--arch", archs, "--threads", "1")
    judged = ("--judge", "eval,stored,bn,flops", "--bs", "8", "--samples", "8,16", "--truth", "true.json")
    try:
        ran = bnrecal("rank", *settings, *options, *judged)
        again = bnrecal("verify", "--sample", "20")  # chains are measured together, repeated one by one
    finally:
        sys.modules.pop("supernet", None)
    assert ran.code == 0, ran.err
    assert again.code == 0, again.out
    assert again.out.count("equal") == 20
    said = run(tmp_path, "images_needed.py", "results", "--figures", "figures")
    assert "lacks to eval pooled bs 8 n 16" in said
    assert "\n| flops " in said
    assert "- pooled bs 8: " in said
    assert "is not told from that at 16" in said or "is told from 16 images beyond noise" in said
    assert (tmp_path / "figures/ranking-by-images.svg").is_file()


def test_enough_images_are_those_from_which_nothing_is_told_apart() -> None:
    """A count below one that is told apart does not count as enough, whatever chance says of it."""
    needed = script(MACRO / "images_needed.py")
    from bnrecal.search.ranking import Figure, Ranking

    def ranking(**noise: bool) -> Ranking:
        rungs = ["a", "b", "c"]
        figures = {(name, "d"): Figure(-0.1, -0.2, 0.1 if noise[name] else -0.05) for name in rungs}
        return Ranking((), {}, {}, figures, None)

    rungs = {1: "a", 2: "b", 4: "c", 8: "d"}
    assert needed.enough(ranking(a=True, b=True, c=True), rungs) == 1
    assert needed.enough(ranking(a=True, b=False, c=True), rungs) == 4
    assert needed.enough(ranking(a=True, b=True, c=False), rungs) is None


def test_orders_of_the_images_have_ladders_of_their_own() -> None:
    """Judges of several seeds are not mixed, and those of none keep their names."""
    needed = script(MACRO / "images_needed.py")
    from bnrecal.report.analysis.judged import Judge, Judged

    names = ["stored", "eval pooled bs 64 n 1,024 seed 0", "eval pooled bs 64 n 64 seed 0"]
    names += ["eval pooled bs 64 n 64 seed 1", "eval ema bs 8 n 16"]
    found = needed.ladders_of(Judged("", tuple(Judge(name, {}, 0) for name in names), None))
    assert found == {
        "pooled bs 64 seed 0": {64: names[2], 1024: names[1]},
        "pooled bs 64 seed 1": {64: names[3]},
        "ema bs 8": {16: names[4]},
    }
