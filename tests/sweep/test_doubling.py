"""`bnrecal advise`: climbs until enough, keeps its promise, says when it cannot; its rows are a store's."""

import json
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bnrecal.errors import BnrecalError
from bnrecal.executors import of as executor_of
from bnrecal.executors.executor import Job
from bnrecal.networks.embedded import EmbeddedSupernet
from bnrecal.plan.opened import open_study
from bnrecal.report.analysis.choice import Setting, gaps
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.store import evidence
from bnrecal.store.store import Store
from bnrecal.sweep import ladders as room
from bnrecal.sweep.doubling import Budget, Climbed, climb
from bnrecal.sweep.ladders import Ladder, counts_of

N_IMAGES = 4000
TINY = ("--task", "tiny", "--arch", "arch1", "--bs", "16")


def rung(folder: Path, n: int, share: float, turned: int = 0, **fields: Any) -> Setting:
    """A setting right on a share of the images; `turned`: as many won as lost, by its own lot."""
    right = np.arange(N_IMAGES) < share * N_IMAGES
    lot = np.random.default_rng(n)
    for value in (True, False):
        right[lot.choice(np.flatnonzero(right == value), turned, replace=False)] = not value
    values = {"estimator": "pooled", "momentum": None, "batch_size": 64, **fields}
    row = {"key": f"{n:012x}", "status": "done", "data_digest": "d", "eval": float(right.mean())}
    evidence.keep(folder, row["key"], {"correct": right.astype(np.uint8)})
    return Setting(n_samples=n, rows={"a": row}, **values)


def ladder(*rungs: Setting) -> Ladder:
    first = rungs[0]
    return Ladder(
        first.estimator, first.momentum, first.batch_size, (64, 128, 256, 512, 1024), rungs=list(rungs)
    )


def known(folder: Path, *rungs: Setting) -> Uncertainty:
    return Uncertainty(folder, [row for one in rungs for row in one.rows.values()])


def test_enough_is_neither_worse_than_its_doubling_nor_than_the_best(tmp_path: Path) -> None:
    """The lowest rung within .003 of both; one that stands still far below another is not enough."""
    climbed = ladder(rung(tmp_path, 64, 0.50), rung(tmp_path, 128, 0.55), rung(tmp_path, 256, 0.551))
    higher = rung(tmp_path, 512, 0.60)
    intervals = known(tmp_path, *climbed.rungs, higher)
    best = climbed.rungs[-1]
    assert room.enough(climbed, best, intervals, 0.003) is climbed.rungs[1]
    assert room.enough(climbed, higher, intervals, 0.003) is None
    assert room.enough(ladder(climbed.rungs[0]), best, intervals, 0.003) is None  # not doubled yet


def test_a_cold_average_is_never_enough(tmp_path: Path) -> None:
    """An exponential average that still holds its start stands still at nothing: it must go on."""
    ema = {"estimator": "ema", "momentum": 0.1}
    dead = ladder(*(rung(tmp_path, n, 0.0, **ema) for n in (64, 128, 256)))
    assert room.enough(dead, dead.rungs[0], known(tmp_path, *dead.rungs), 0.003) is None
    assert not room.stands_still(dead, dead.rungs[0], known(tmp_path, *dead.rungs), 0.003)
    warm = ladder(*(rung(tmp_path, 64 * n, 0.5, **ema) for n in (60, 120, 240)))
    assert room.enough(warm, warm.rungs[0], known(tmp_path, *warm.rungs), 0.003) is warm.rungs[0]
    assert room.stands_still(warm, warm.rungs[0], known(tmp_path, *warm.rungs), 0.003)


def test_wide_intervals_give_a_weaker_answer(tmp_path: Path) -> None:
    """Equal figures with a wide paired interval: not shown, but standing still after two doublings."""
    climbed = ladder(*(rung(tmp_path, n, 0.5, turned=400) for n in (64, 128, 256)))
    intervals = known(tmp_path, *climbed.rungs)
    assert room.enough(climbed, climbed.rungs[0], intervals, 0.003) is None
    assert room.stands_still(climbed, climbed.rungs[0], intervals, 0.003)
    (gap,) = gaps(climbed.rungs[1].rows, climbed.rungs[0].rows, ["a"], intervals)
    assert gap.half_width is not None
    assert gap.half_width > 0.01


def test_a_clear_gain_goes_on_whatever_the_noise(tmp_path: Path) -> None:
    """A doubling that is better beyond noise by more than the tolerance: not at rest."""
    shares = {64: 0.40, 128: 0.50, 256: 0.50}
    climbed = ladder(*(rung(tmp_path, n, share, turned=400) for n, share in shares.items()))
    assert not room.stands_still(climbed, climbed.rungs[1], known(tmp_path, *climbed.rungs), 0.003)


@pytest.mark.parametrize(
    ("batch_size", "n", "counts"),
    [
        (16, 205, (64, 128, 192)),
        (16, 256, (64, 128, 256)),
        (64, 1000, (64, 128, 256, 512, 960)),
        (4, 9, (4, 8)),
        (1, 3, (1, 2, 3)),
        (200, 256, (200,)),
    ],
)
def test_the_last_rung_is_all_whole_batches(batch_size: int, n: int, counts: Sequence[int]) -> None:
    """205 images at batch size 16 end at 192, not at 128 with images left."""
    assert counts_of(batch_size, n) == counts


def climbed(folder: Path, tolerance: float = 0.05, budget: Budget | None = None, **study: Any) -> Climbed:
    settings = {"task": "tiny", "arch": ["arch1"], "estimator": ["pooled", "ema"], **study}
    opened = open_study(settings, {})
    with executor_of("inline", Job(opened.study, "cpu"), opened=opened) as executor:
        return climb(
            opened, Store(folder), executor, tolerance, budget or Budget(1e6), lambda row: None, (32,)
        )


def test_what_is_measured_stays_and_is_not_measured_again(tmp_path: Path) -> None:
    """Stopped after 64 images and begun again without a bound: rows that are there are not done again."""
    short = climbed(tmp_path / "one", budget=Budget(1e6, images=128))
    assert {lad.stopped for lad in short.ladders} == {"out of images"}
    before = Store(tmp_path / "one").rows()
    assert [row["estimator"] for row in before] == ["stored", "pooled", "ema"]
    whole = climbed(tmp_path / "one")
    rows = Store(tmp_path / "one").rows()
    assert rows[:3] == before
    assert len({row["key"] for row in rows}) == len(rows)
    pooled = [row["n_samples"] for row in rows if row["estimator"] == "pooled"]
    assert [rung.n_samples for rung in whole.ladders[0].rungs] == pooled
    again = climbed(tmp_path / "one")
    assert Store(tmp_path / "one").rows() == rows
    assert {row["key"] for row in again.rows} == {row["key"] for row in rows}


def test_time_is_no_bound_for_what_is_there(tmp_path: Path) -> None:
    """With rows of every rung a budget of no time ends nothing; without rows it leaves nothing to say."""
    whole = climbed(tmp_path / "one")
    assert max(len(lad.rungs) for lad in whole.ladders) > 1
    again = climbed(tmp_path / "one", budget=Budget(0.0))
    assert [len(lad.rungs) for lad in again.ladders] == [len(lad.rungs) for lad in whole.ladders]
    with pytest.raises(BnrecalError) as early:
        climbed(tmp_path / "two", budget=Budget(0.0))
    assert "--max-seconds 0: over before anything was measured; evaluating" in str(early.value)
    assert "fewer architectures or images" in str(early.value)


def test_its_rows_are_those_of_a_sweep(bnrecal: Callable[..., Any]) -> None:
    """Same keys, same figures as the grid that names these cells; `report`, `show`, `verify` read them."""
    assert bnrecal("advise", *TINY, "--estimator", "pooled", "--tolerance", "0.1").code == 0
    mine = {row["key"]: row for row in Store(Path("results/advise")).rows()}
    samples = ",".join(str(row["n_samples"]) for row in mine.values() if row["n_samples"])
    assert bnrecal("sweep", *TINY, "--estimator", "pooled", "--samples", samples, "--baseline").code == 0
    swept = {row["key"]: row for row in Store(Path("results")).rows()}
    assert mine.keys() == swept.keys()
    for key, row in mine.items():
        assert row["eval"] == pytest.approx(swept[key]["eval"], abs=1e-6)
    assert bnrecal("verify", "--out", "results/advise", "--sample", "1").code == 0
    assert bnrecal("show", next(iter(mine)), "--out", "results/advise").code == 0


def test_report_and_advise_say_the_same(bnrecal: Callable[..., Any]) -> None:
    """Every sentence of the advice stands in the report of its rows, word for word."""
    for tolerance in ("0.1", "0.001"):
        ran = bnrecal("advise", *TINY, "--tolerance", tolerance, "--json")
        sentences = json.loads(ran.out)["sentences"]
        assert len(sentences) > 3
        told = bnrecal("report", "--out", "results/advise", "--tolerance", tolerance).out
        for sentence in sentences:
            assert sentence in " ".join(told.split())


def test_its_setting_is_checked_by_a_sweep(bnrecal: Callable[..., Any]) -> None:
    """The promise on the tiny task: a sweep up to the whole set finds nothing better by more than that."""
    ran = bnrecal(
        "advise", "--task", "tiny", "--arch", "arch3", "--tolerance", "0.05", "--bs", "16", "--json"
    )
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found["settled"]
    assert found["verdict"] == "use"
    setting = found["setting"]
    samples = f"{setting['n_samples']},{2 * setting['n_samples']},256"
    arguments = ("--task", "tiny", "--arch", "arch3", "--bs", "16", "--estimator", "pooled,cumulative,ema")
    assert bnrecal("sweep", *arguments, "--samples", samples).code == 0
    rows = Store(Path("results")).rows()
    best = max(row["eval"] for row in rows)
    assert best - setting["eval"]["arch3"] <= 0.05


def test_the_network_as_it_stands_comes_first(bnrecal: Callable[..., Any]) -> None:
    """Measured before any rung, shown in the table, and what re-estimating does to it is said."""
    ran = bnrecal("advise", *TINY, "--tolerance", "0.1")
    assert ran.code == 0
    assert ran.err.splitlines()[0].startswith("arch1 as it stands: eval 0.0")
    assert ran.out.splitlines()[1].startswith("as it stands: 0.0")
    assert "It repairs arch1: mAP@0.5 0.0" in ran.out


def test_a_network_that_re_estimating_harms_is_left_alone(bnrecal: Callable[..., Any]) -> None:
    """A network with good statistics, and an average that stays cold: leave it, no code to paste."""
    made = bnrecal("recalibrate", "--task", "tiny", "--arch", "arch1", "-o", "good.safetensors")
    assert made.code == 0, made.err
    cold = ("--weights", "good.safetensors", "--estimator", "ema", "--tolerance", "0.1")
    ran = bnrecal("advise", *TINY, *cold)
    assert ran.code == 0
    said = " ".join(ran.out.split())
    assert "Leave arch1 as it stands: re-estimating makes it worse, from 0." in said
    assert "Use " not in ran.out
    assert "import bnrecal" not in ran.out
    facts = json.loads(bnrecal("advise", *TINY, *cold, "--json").out)
    assert (facts["verdict"], facts["setting"]) == ("leave", None)
    assert facts["harmed"][0]["interval"][0] > 0


def test_the_answer_can_be_pasted(bnrecal: Callable[..., Any]) -> None:
    """The code it prints runs, on a model of the user's."""
    import torch
    from torch import nn

    ran = bnrecal("advise", *TINY, "--tolerance", "0.1")
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
    """Too few images to climb: it says so, names the reason, and reads no more than allowed."""
    ran = bnrecal("advise", "--task", "tiny", "--arch", "arch1", "--tolerance", "0", "--max-images", "64")
    assert ran.code == 0
    assert "The climb was cut short" in ran.out
    assert "out of images" in ran.out
    assert sum(row["n_samples"] for row in Store(Path("results/advise")).rows()) <= 64
    nothing = bnrecal(
        *("advise", "--task", "tiny", "--arch", "arch1", "--max-images", "8", "--out", "nothing"),
    )
    assert nothing.code == 2
    assert "--max-images" in nothing.err
    free = bnrecal("advise", *TINY, "--estimator", "pooled", "--tolerance", "0.1")
    assert "cut short" not in free.out


def test_exact_takes_part(bnrecal: Callable[..., Any]) -> None:
    """Each of its rungs is a set of images of its own; the table has its column."""
    ran = bnrecal(
        *("advise", "--task", "tiny", "--arch", "arch1", "--estimator", "exact", "--bs", "32"),
        *("--tolerance", "0.2", "--json"),
    )
    found = json.loads(ran.out)
    assert found["settled"]
    assert found["setting"]["estimator"] == "exact"


def test_without_a_baseline_nothing_is_said_of_it(tmp_path: Path) -> None:
    """A study that leaves the network as it stands out has no row of it."""
    found = climbed(tmp_path, estimator=["pooled"], baseline=False)
    assert {row["estimator"] for row in found.rows} == {"pooled"}


def test_stored_alone_has_nothing_to_climb(tmp_path: Path) -> None:
    """It re-estimates nothing: said, naming the option."""
    with pytest.raises(BnrecalError, match="--estimator: 'stored' re-estimates nothing"):
        climbed(tmp_path, estimator=["stored"])


def test_bad_input_is_one_line(bnrecal: Callable[..., Any]) -> None:
    """Unknown estimator, batch sizes the task cannot double: exit code 2."""
    for arguments, said in (
        (("--estimator", "nope"), "--estimator"),
        (("--bs", "200"), "--bs: 200: 256 calibration images are too few to double one batch; at most 128"),
        (("--bs", "200", "--samples", "1"), "No such option"),
    ):
        ran = bnrecal("advise", "--task", "tiny", *arguments)
        assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
        assert said.lower() in ran.err.lower()


@pytest.mark.parametrize(
    ("n_rungs", "estimators"), [(0, ["pooled"]), (1, ["pooled"]), (1, ["pooled", "ema"])]
)
def test_the_time_is_kept_in_mid_rung(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, n_rungs: int, estimators: list[str]
) -> None:
    """A rung that would last an hour is ended when the time is over: an answer from those before, or none.

    Those before may be of the same round: a finished rung of one estimator counts when the next is cut.

    The time is long enough for any machine; the sleeping rung's own alarm is set to ring at once.
    """
    store = Store(tmp_path)
    build = EmbeddedSupernet.build

    def sleeps(module: nn.Module, images: torch.Tensor) -> Any:
        if len(store.rows()) == n_rungs:
            assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            time.sleep(3600)
        return module(images)

    monkeypatch.setattr(
        EmbeddedSupernet, "build", lambda self, arch: replace(build(self, arch), forward=sleeps)
    )
    settings = {"task": "tiny", "arch": ["arch1"], "estimator": estimators, "baseline": False}
    opened = open_study({**settings, "samples": [256]}, {})
    with executor_of("inline", Job(opened.study, "cpu"), opened=opened) as executor:

        def climbed() -> Climbed:
            return climb(opened, store, executor, 0.0, Budget(600), lambda row: None, (32,))

        if n_rungs == 0:
            with pytest.raises(
                BnrecalError,
                match=r"--max-seconds 600: over before anything was measured; .*on the first rung",
            ):
                climbed()
            return
        found = climbed()
    assert len(store.rows()) == 1
    assert [ladder.stopped for ladder in found.ladders] == ["out of time"] * len(estimators)
    assert [len(ladder.rungs) for ladder in found.ladders] == [1, 0][: len(estimators)]
