"""What a dry run shows."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

TRAINED = """
task = "tiny"
arch = ["arch1"]
bs = [8]
samples = [64]
estimator = ["stored", "pooled"]

[train]
norm = ["bn", "gn"]
norm_batch = [2, 4]
batch_size = 8
seed = [0, 1]
sampling = "uniform"
"""


def test_a_large_grid_is_a_table_of_80_columns(bnrecal: Callable[..., Any]) -> None:
    """192,000 cells: a line for each rule with its cells and passes, and what all take."""
    grid = ("--arch", "random:300", "--samples", "64,128,256,512,1024,2048,4096,8192", "--repeats", 5)
    ran = bnrecal("sweep", "--dry-run", *grid, "--estimator", "ema,pooled,exact", "--momentum", "0.1,0.02")
    lines = [line.strip() for line in ran.out.splitlines()]
    assert max(map(len, ran.out.splitlines())) <= 80
    assert len(lines) < 60
    rules = {line[:9].strip(): line.split() for line in lines if re.match(r"ema|pooled|exact", line)}
    assert list(rules) == ["ema 0.1", "ema 0.02", "pooled", "exact"]
    assert rules["pooled"][-3:] == ["48,000", "6,000", "49,152,000"]  # a walk serves all eight counts
    assert rules["exact"][-3:] == ["48,000", "48,000", "97,920,000"]  # and of exact only its own
    assert "192,000 of 192,000 cells to do in 66,000 passes" in " ".join(ran.out.split())


def test_sizes_that_do_the_same_share_a_line_and_others_do_not(bnrecal: Callable[..., Any]) -> None:
    """What is done already leaves a batch size with fewer counts, which is then a line of its own."""
    grid = ("--task", "tiny", "--arch", "arch1", "--bs", "4,8,16", "--samples", "64,128")
    bnrecal("sweep", *grid, "--only", "bs=8", "--only", "samples=64")
    lines = [line.strip() for line in bnrecal("sweep", *grid, "--dry-run").out.splitlines()]
    assert [line.split()[2:-4] for line in lines if line.startswith("ema")] == [
        ["4,", "16", "64,", "128", "arch1"],
        ["8", "128", "arch1"],
    ]


def test_trainings_are_told_by_what_varies(bnrecal: Callable[..., Any]) -> None:
    """How many, on how many images, and each varied field with its values, where it has a say."""
    Path("study.toml").write_text(TRAINED)
    out = " ".join(bnrecal("sweep", "--study", "study.toml", "--dry-run").out.split())
    assert "6 networks to train on 15,360 images: the supernet (bn, gn; norm batch 2, 4; seed 0, 1)" in out
    assert re.search(r"pooled 8 64 4 trained 0 4 4 256", out)
    assert re.search(r"as they stand 6 trained 6 6", out)
