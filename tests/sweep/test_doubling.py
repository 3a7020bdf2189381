"""`bnrecal advise`: climbs until enough, keeps its promise, says when it cannot."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnrecal.plan.opened import Opened
from bnrecal.study.study import make_study
from bnrecal.sweep import doubling as room
from bnrecal.sweep.doubling import Budget, Ladder, Rung, advise, behind


def rung(n: int, share: float, noise: float = 0.0, **fields: Any) -> Rung:
    """A rung that is right on a share of the images; `noise`: spread of its resamples alone."""
    figures = share + np.random.default_rng(0).normal(0, 0.01, 1000)
    own = np.random.default_rng(n).normal(0, noise, 1000) if noise else 0.0
    values = {"estimator": "pooled", "momentum": None, "batch_size": 64, "recal_s": 0.1, **fields}
    return Rung(n_samples=n, evals={"a": share}, figures={"a": figures + own}, **values)


def ladder(*rungs: Rung) -> Ladder:
    first = rungs[0]
    return Ladder(first.estimator, first.momentum, first.batch_size, [64, 128, 256, 512, 1024], list(rungs))


def test_enough_is_neither_worse_than_its_doubling_nor_than_the_best() -> None:
    """The lowest rung within .003 of both; one that stands still far below another is not enough."""
    climbed = ladder(rung(64, 0.50), rung(128, 0.55), rung(256, 0.551))
    best = climbed.rungs[-1]
    found = room._enough(climbed, best, 0.003, shown=True)
    assert found is climbed.rungs[1]
    assert room._enough(climbed, rung(512, 0.60), 0.003, shown=True) is None
    assert room._enough(ladder(rung(64, 0.5)), best, 0.003, shown=True) is None  # not doubled yet


def test_a_cold_average_is_never_enough() -> None:
    """An exponential average with 5 % of its start left stands still at nothing: it must go on."""
    ema = {"estimator": "ema", "momentum": 0.1}
    dead = ladder(rung(64, 0.0, **ema), rung(128, 0.0, **ema), rung(256, 0.0, **ema))
    assert room._enough(dead, dead.rungs[0], 0.003, shown=True) is None
    assert not room._stands_still(dead, dead.rungs[0], 0.003)
    warm = ladder(rung(64 * 40, 0.5, **ema), rung(64 * 80, 0.5, **ema))
    assert room._enough(warm, warm.rungs[0], 0.003, shown=True) is warm.rungs[0]


def test_wide_intervals_give_a_weaker_answer() -> None:
    """Equal figures with a wide paired interval: not shown, but standing still after two doublings."""
    climbed = ladder(*(rung(n, 0.5, noise=0.02) for n in (64, 128, 256)))
    assert room._enough(climbed, climbed.rungs[0], 0.003, shown=True) is None
    assert room._stands_still(climbed, climbed.rungs[0], 0.003)
    gap = behind(climbed.rungs[0], climbed.rungs[1])
    assert gap.beyond_noise == 0
    assert gap.bound is not None
    assert gap.bound > 0.02


def test_a_clear_gain_goes_on_whatever_the_noise() -> None:
    """A doubling that is better beyond noise by more than the tolerance: not enough, not at rest."""
    climbed = ladder(rung(64, 0.40, noise=0.01), rung(128, 0.50, noise=0.01), rung(256, 0.50, noise=0.01))
    assert not room._stands_still(climbed, climbed.rungs[1], 0.003)
    assert room._enough(climbed, climbed.rungs[1], 0.003, shown=False) is climbed.rungs[1]


def test_its_setting_is_checked_by_a_sweep(bnrecal: Callable[..., Any]) -> None:
    """The promise on the tiny task: a sweep up to the whole set finds nothing better by more than that."""
    ran = bnrecal(
        "advise", "--task", "tiny", "--arch", "arch3", "--tolerance", "0.05", "--bs", "16", "--json"
    )
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found["settled"]
    setting = found["setting"]
    samples = f"{setting['n_samples']},{2 * setting['n_samples']},256"
    arguments = ("--task", "tiny", "--arch", "arch3", "--bs", "16", "--estimator", "pooled,cumulative,ema")
    assert bnrecal("sweep", *arguments, "--samples", samples).code == 0
    rows = [json.loads(line) for line in Path("results/rows.jsonl").read_text().splitlines()]
    best = max(row["eval"] for row in rows)
    (same,) = [
        row
        for row in rows
        if (row["estimator"], row["n_samples"]) == (setting["estimator"], setting["n_samples"])
    ]
    assert same["eval"] == pytest.approx(setting["eval"]["arch3"], abs=1e-6)
    assert best - same["eval"] <= 0.05


def test_the_answer_can_be_pasted(bnrecal: Callable[..., Any]) -> None:
    """The code it prints runs, on a model of the user's."""
    import torch
    from torch import nn

    ran = bnrecal("advise", "--task", "tiny", "--arch", "arch1", "--tolerance", "0.1", "--bs", "16")
    assert ran.code == 0
    code = "import bnrecal" + ran.out.partition("import bnrecal")[2].replace("\n    ", "\n")
    assert 'estimator="' in code
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    batches = list(torch.randn(16, 16, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    before = model[1].running_mean.clone()  # type: ignore[union-attr, operator]
    exec(code, {"model": model, "batches": batches})
    assert not torch.equal(before, model[1].running_mean)  # type: ignore[arg-type]
    assert max(map(len, ran.out.splitlines())) <= 90


def test_a_budget_is_kept_and_its_end_is_said(bnrecal: Callable[..., Any]) -> None:
    """Too few images for an answer: it says so, names the reason, and reads no more than allowed."""
    study = make_study({"task": "tiny", "arch": ["arch1"], "estimator": ["pooled", "ema"]})
    read: list[Rung] = []
    found = advise(Opened.of(study), "cpu", 0.0, Budget(60, images=64), read.append, (32,))
    assert [r.n_samples for r in read] == [64]
    assert found.chosen is None
    assert {lad.stopped for lad in found.ladders} == {"out of images"}
    ran = bnrecal("advise", "--task", "tiny", "--arch", "arch1", "--tolerance", "0", "--max-images", "64")
    assert ran.code == 0
    assert "No setting was seen to be enough" in ran.out
    assert "out of images" in ran.out
    nothing = bnrecal("advise", "--task", "tiny", "--arch", "arch1", "--max-images", "8")
    assert nothing.code == 2
    assert "--max-images" in nothing.err


def test_exact_takes_part(bnrecal: Callable[..., Any]) -> None:
    """Each of its rungs is a set of images of its own; the table has its column."""
    ran = bnrecal(
        *("advise", "--task", "tiny", "--arch", "arch1", "--estimator", "exact", "--bs", "32"),
        *("--tolerance", "0.2", "--json"),
    )
    found = json.loads(ran.out)
    assert found["settled"]
    assert found["setting"]["estimator"] == "exact"


def test_bad_input_is_one_line(bnrecal: Callable[..., Any]) -> None:
    """Unknown estimator, batch sizes the task cannot double: exit code 2."""
    for arguments, said in (
        (("--estimator", "nope"), "--estimator"),
        (("--bs", "200", "--samples", "1"), "No such option"),
    ):
        ran = bnrecal("advise", "--task", "tiny", *arguments)
        assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
        assert said.lower() in ran.err.lower()
