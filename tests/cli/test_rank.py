"""`bnrecal rank`: what it measures, keeps and says; and the report of its folder."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnrecal.store.rows import Row
from bnrecal.store.store import Store
from tests.executors.processes import finish, start, until
from tests.own_images import write_class_folders
from tests.sweep.trained import MODULE

ARCHS = "0-0-0-0-0-0-0-0,1-1-1-1-1-1-1-1,2-2-2-2-2-2-2-2,3-3-3-3-3-3-3-3,3-3-3-3-3-3-3-0"
SMALL = ("rank", "--task", "tiny", "--arch", ARCHS, "--bs", "16", "--samples", "64", "--threads", "1")
EVERY = "eval,stored,bn,flops,params,random"
OWN_JUDGE = """
def depth(arch):
    return sum(map(int, arch.split("-")))

def brightness(module, images):
    assert not module.training
    return float(images.mean()) + len(list(module.modules()))

def wants_more(module, budget):
    return 0.0

def breaks(arch):
    return float("nan")

def dislikes_the_first(arch):
    if arch == "arch1":
        raise ValueError("not this one")
    return len(arch)

def works_in_place(module, images):
    images.mul_(0.5)
    return float(images.abs().mean())

def sleeps(arch):
    import time
    time.sleep(60)
"""


def figures(out: Path) -> dict[str, Any]:
    """What was found, by key: metric and score; each once, and done."""
    rows = Store(out).rows()
    found = {row["key"]: (row.get("eval"), row.get("score"), row["arch"]) for row in rows}
    assert len(found) == len(rows)
    assert {row["status"] for row in rows} == {"done"}
    return found


def judgements(out: Path, judge: str) -> dict[str, Row]:
    return {row["arch"]: row for row in Store(out).rows() if row.get("judge") == judge}


def test_every_judge_is_kept_and_what_is_done_is_not_done_again(bnrecal: Callable[..., Any]) -> None:
    """A row for each architecture and judge; the second call and the report give the answer from the rows."""
    first = bnrecal(*SMALL, "--judge", EVERY)
    assert first.code == 0, first.err
    before = figures(Path("results"))
    assert len(before) == 5 * 6
    assert len(judgements(Path("results"), "flops")) == 5
    again = bnrecal(*SMALL, "--judge", EVERY)
    assert again.out == first.out
    assert figures(Path("results")) == before
    assert bnrecal("report", "results").out == first.out
    assert "0-0-0-0-0-0-0-0" in bnrecal("report", "--format", "csv").out  # the tables of a sweep as well


def test_a_report_of_cells_says_that_there_is_a_ranking(bnrecal: Callable[..., Any]) -> None:
    """In layouts, and of several folders, that show cells; not where the ranking is shown, or is none."""
    tiny = ("--task", "tiny", "--arch", "arch1", "--bs", "16", "--samples", "64", "--threads", "1")
    assert bnrecal("sweep", *tiny, "--out", "swept").code == 0
    assert bnrecal("rank", *tiny, "--judge", "eval,flops", "--out", "ranked").code == 0
    assert bnrecal("rank", *tiny, "--judge", "flops", "--out", "judged").code == 0
    said = (
        "note: ranked holds a ranking; `bnrecal report ranked` shows it (table, md, json), this shows cells"
    )
    for folders, layout, is_said in (
        (["ranked"], "csv", True),
        (["swept", "ranked"], "table", True),
        (["swept"], "csv", False),
        (["ranked"], "table", False),
    ):
        ran = bnrecal("report", *folders, "--format", layout)
        assert ran.code == 0, ran.err
        assert (said in ran.err) == is_said
    ran = bnrecal("report", "judged", "--format", "csv")
    assert (ran.code, "no rows of evaluated networks in judged/rows.jsonl" in ran.err) == (2, True)


def test_the_metric_is_that_of_a_sweeps_cells_to_the_last_bit(bnrecal: Callable[..., Any]) -> None:
    """Same keys, same eval: a sweep on the folder of a ranking has nothing left to do but what is new."""
    assert bnrecal(*SMALL, "--judge", "eval", "--estimator", "pooled,ema", "--out", "ranked").code == 0
    grid = ("--arch", ARCHS, "--bs", "16", "--samples", "64", "--estimator", "pooled,ema", "--threads", "1")
    assert bnrecal("sweep", "--task", "tiny", *grid, "--out", "swept").code == 0
    assert figures(Path("ranked")) == figures(Path("swept"))
    assert all(row["update"] is None for row in Store(Path("ranked")).rows())
    assert "all 10 cells are done" in bnrecal("sweep", "--task", "tiny", *grid, "--out", "ranked").err


def test_processes_give_the_rows_of_one(bnrecal: Callable[..., Any]) -> None:
    """-j 2: other trees of subnets and other processes, the same figures."""
    assert bnrecal(*SMALL, "--judge", EVERY, "--out", "one").code == 0
    assert bnrecal(*SMALL, "--judge", EVERY, "--out", "two", "-j", "2").code == 0
    assert figures(Path("two")) == figures(Path("one"))


def test_killed_it_goes_on_where_it_was(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """SIGKILL after the judgements and some cells: the same command ends with the same rows."""
    options = ("--judge", "eval,stored,flops", "--samples", "64,128,192,256")
    assert bnrecal(*SMALL, *options, "--out", "whole").code == 0
    out = tmp_path / "killed"
    process = start(*SMALL, *options, "--out", out)
    until(lambda: len(Store(out).seen().status) > 6)
    process.kill()
    process.communicate()
    n = len(Store(out).rows())
    assert n < 5 * 6, "it was done before it could be killed"
    finish(start(*SMALL, *options, "--out", out))
    assert figures(out) == figures(tmp_path / "whole")


def write_truth(folder: Path) -> Path:
    """True values that say what FLOPs say, in three runs that agree."""
    archs = ARCHS.split(",")
    values = {arch: float(at) for arch, at in zip(archs, (0, 1, 2, 4, 3), strict=True)}
    runs = {arch: {"mean_acc": v, "test_acc": [v, v, v + 0.1]} for arch, v in values.items()}
    path = folder / "known.json"
    path.write_text(json.dumps(runs))
    return path


def test_judges_are_held_against_the_truth(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """Who orders as the truth does has tau 1 and no regret; the ceiling is that of its runs."""
    truth = write_truth(tmp_path)
    (tmp_path / "holding.py").write_text(OWN_JUDGE)
    judges = "holding:depth,params,random"
    ran = bnrecal(*SMALL, "--judge", judges, "--truth", truth, "--format", "json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found["truth"] == "known"
    depth = found["against_truth"]["holding:depth"]
    assert depth["kendall"]["value"] == pytest.approx(1)
    assert depth["spearman"]["value"] == pytest.approx(1)
    assert depth["regret"] == {"1": 0, "10": None}  # five are fewer than ten
    assert found["ceiling"]["kendall"]["value"] == pytest.approx(1)
    assert found["ceiling"]["n_runs"] == 3
    assert found["against_truth"]["random"]["kendall"]["value"] < 0.99
    truth.unlink()  # the report needs the folder alone
    assert json.loads(bnrecal("report", "results", "--format", "json").out) == found
    text = bnrecal("report", "results").out
    assert "5 architectures: who is closest to the truth is not said of fewer than 10" in text


def test_a_truth_of_other_architectures_is_refused_before_anything_is_measured(
    bnrecal: Callable[..., Any], tmp_path: Path
) -> None:
    """Names of both sides are told; nothing is written, and a truth that is there stays."""
    truth = write_truth(tmp_path)
    assert bnrecal(*SMALL, "--judge", "flops,params", "--truth", truth).code == 0
    before = {path: path.read_bytes() for path in Path("results").rglob("*") if path.is_file()}
    other = tmp_path / "other.json"
    other.write_text('{"000": 1, "001": 2, "002": 3}')
    ran = bnrecal(*SMALL, "--judge", "eval", "--truth", other)
    assert ran.code != 0
    assert (
        "knows 0 of the 5 architectures to be ranked, a comparison needs 3; names there are such as 000"
        in ran.err
    )
    assert {path: path.read_bytes() for path in Path("results").rglob("*") if path.is_file()} == before
    # a store of others beside it: the report has no truth to compare with, and says so
    assert (
        bnrecal("rank", "--task", "tiny", "--arch", "random:4", "--judge", "flops,params", "--out", "r").code
        == 0
    )
    shutil.copytree("results/truth", "r/truth")
    said = bnrecal("report", "r").out.replace("\n", " ")
    assert "known knows 0 of these architectures; a comparison needs 3" in said


def test_a_truth_of_another_name_takes_the_place_of_the_first(
    bnrecal: Callable[..., Any], tmp_path: Path
) -> None:
    """And that is noted; the same name again is not."""
    truth = write_truth(tmp_path)
    other = shutil.copy(truth, tmp_path / "other.json")
    ranked = (*SMALL, "--judge", "flops,params", "--truth")
    for path, noted in ((truth, False), (truth, False), (other, True)):
        assert ("the truth known of results gave way to other" in bnrecal(*ranked, path).err) == noted


def test_a_ranking_has_no_figures(bnrecal: Callable[..., Any]) -> None:
    """And says so, where a search has two."""
    bnrecal(*SMALL, "--judge", "flops,params")
    ran = bnrecal("report", "--figures", "drawn")
    assert ran.code == 2
    assert "--figures: results holds a ranking, which has none; a search has two" in ran.err
    assert not Path("drawn").exists()


def test_defaults_are_those_that_the_help_shows(bnrecal: Callable[..., Any]) -> None:
    """Of rank and search, which are not those of a sweep."""
    for command in ("rank", "search"):
        shown = " ".join(bnrecal(command, "--help").out.split())
        for said in ("[32, or all images]", "[1024, or all there are]", "exact; comma list. [pooled]"):
            assert said in shown
    bnrecal("rank", "--task", "tiny", "--arch", "arch1", "--judge", "eval")
    (row,) = Store(Path("results")).rows()
    # tiny has 256
    assert (row["estimator"], row["batch_size"], row["n_samples"]) == ("pooled", 32, 256)


def test_two_names_of_one_architecture_are_ranked_once(bnrecal: Callable[..., Any]) -> None:
    """The second is noted; it would count as agreement."""
    names = "arch1,0-0-0-0-0-0-0-0,arch2,arch3"
    ran = bnrecal("rank", "--task", "tiny", "--arch", names, "--judge", "flops", "--format", "json")
    assert "0-0-0-0-0-0-0-0 is arch1, which is ranked once" in ran.err
    assert sorted(json.loads(ran.out)["architectures"]) == ["arch1", "arch2", "arch3"]


def test_the_users_own_judge(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """It gets what it names: the network in eval mode, calibration images, the name; edited it is another."""
    (tmp_path / "mine.py").write_text(OWN_JUDGE)
    assert bnrecal(*SMALL, "--judge", "mine:depth,mine:brightness").code == 0
    scores = {arch: row["score"] for arch, row in judgements(Path("results"), "mine:depth").items()}
    assert scores == {arch: sum(map(int, arch.split("-"))) for arch in ARCHS.split(",")}
    assert len({row["score"] for row in judgements(Path("results"), "mine:brightness").values()}) > 1
    (tmp_path / "mine.py").write_text(OWN_JUDGE + "\n")
    bnrecal(*SMALL, "--judge", "mine:depth")
    assert len([row for row in Store(Path("results")).rows() if row["judge"] == "mine:depth"]) == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--judge", "taste"), "--judge: unknown judge 'taste'; valid: bn, eval"),
        (("--judge", "asking:wants_more"), "--judge: asking:wants_more needs budget; allowed arguments"),
        (("--judge", "bn", "--task", "imagefolder", "--model", "learnt:net"), "learnt:net names no choices"),
        (("--arch", "arch1,arch1x"), "--arch: unknown architecture 'arch1x'"),
        (("--truth", "nothing.json"), "--truth: cannot read nothing.json"),
    ],
)
def test_what_cannot_be_is_one_line(
    bnrecal: Callable[..., Any], tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    """Before anything is measured; nothing is written."""
    write_class_folders(tmp_path / "set", n=20, size=12)
    (tmp_path / "learnt.py").write_text(MODULE)
    (tmp_path / "asking.py").write_text(OWN_JUDGE)
    images = ("--calibration", "set/train", "--evaluation", "set/val", "--image-size", "12")
    of_images = images if "imagefolder" in options else ("--task", "tiny")
    ran = bnrecal("rank", *of_images, *options)
    assert ran.code == 2
    assert message in ran.err
    assert not Path("results").exists()


def test_a_judge_that_fails_is_a_failed_row(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """With the reason and exit code 3; --retry-failed asks it again."""
    (tmp_path / "broken.py").write_text(OWN_JUDGE)
    ran = bnrecal(*SMALL, "--judge", "flops,broken:breaks")
    assert ran.code == 3
    assert "5 of 10 failed" in ran.err
    failed = [row for row in Store(Path("results")).rows() if row["status"] == "failed"]
    assert "gives nan; needs a finite number" in failed[0]["error"]
    bnrecal(*SMALL, "--judge", "flops,broken:breaks", "--retry-failed")
    assert len(Store(Path("results")).rows()) == 15


def test_an_architecture_that_cannot_be_judged_leaves_the_others(
    bnrecal: Callable[..., Any], tmp_path: Path
) -> None:
    """Its row fails with its own error; those after it have their scores, and no judge sees what one before
    made of the images."""
    (tmp_path / "picky.py").write_text(OWN_JUDGE)
    ran = bnrecal(
        *("rank", "--task", "tiny", "--arch", "arch1,arch2,arch3,0-1-2-3-0-1-2-3"),
        *("--judge", "picky:dislikes_the_first,picky:works_in_place"),
    )
    assert ran.code == 3
    rows = [row for row in Store(Path("results")).rows() if row["judge"] == "picky:dislikes_the_first"]
    assert {row["arch"]: row["status"] for row in rows}.pop("arch1") == "failed"
    assert [row["arch"] for row in rows if row["status"] == "failed"] == ["arch1"]
    assert "picky:dislikes_the_first (arch1) raised ValueError: not this one" in rows[0]["error"]
    alike = [row["score"] for row in Store(Path("results")).rows() if row["judge"] == "picky:works_in_place"]
    assert len(set(alike)) == 1


def test_a_judge_that_takes_too_long_is_ended(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """--timeout is for judges too."""
    (tmp_path / "slow.py").write_text(OWN_JUDGE)
    judged = ("--arch", "arch1,arch2,arch3", "--judge", "slow:sleeps", "--timeout", "1")
    assert bnrecal("rank", "--task", "tiny", *judged).code != 0
    assert {row["failure"] for row in Store(Path("results")).rows()} == {"timed out"}


def test_verify_finds_a_score_that_is_another(bnrecal: Callable[..., Any]) -> None:
    """Judgements are repeated as cells are; a changed score is exit code 4."""
    bnrecal(*SMALL, "--judge", "bn,flops")
    rows = Store(Path("results")).rows()
    ran = bnrecal("verify", "--sample", "10")
    assert ran.code == 0, ran.err
    assert ran.out.count("equal") == 10
    assert f"{rows[0]['arch']} before bn: equal" in ran.out
    from bnrecal.store.rows import line_of

    rows[0]["score"] += 1e-9
    Path("results/rows.jsonl").write_bytes(b"".join(map(line_of, rows)))
    assert bnrecal("verify", rows[0]["key"][:8]).code == 4


def test_show_prints_the_command_that_judges_again(bnrecal: Callable[..., Any]) -> None:
    """One architecture, one judge: the same key and score, and no ranking of one."""
    import shlex

    bnrecal(*SMALL, "--judge", "flops")
    row = Store(Path("results")).rows()[2]
    command = shlex.split(bnrecal("show", row["key"]).out.rstrip().splitlines()[-1])
    ran = bnrecal(*command[1:])
    assert ran.code == 0, ran.err
    assert "1 architecture: order and agreement need 3" in ran.out
    (folder,) = Path().glob("again-*")
    (again,) = Store(folder).rows()
    assert (again["key"], again["score"]) == (row["key"], row["score"])


def test_all_architectures_and_random_ones(bnrecal: Callable[..., Any]) -> None:
    """--arch all takes a space whole where it is not too large; random:K draws K different ones."""
    ran = bnrecal("rank", "--task", "tiny", "--arch", "all", "--judge", "random", "--dry-run")
    assert "65,536 architectures" in ran.out
    ran = bnrecal("rank", "--task", "tiny", "--arch", "random:30", "--judge", "eval,bn", "--dry-run")
    assert "30 architectures: 30 cells" in ran.out
    assert "30 judgements to do" in ran.out


def test_networks_that_the_study_trains_are_judged(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """Two recipes of one supernet: a judge for each, on weights that did not exist when it was planned; what
    no training changes stands once."""
    write_class_folders(tmp_path / "set", n=20, size=16)
    (tmp_path / "study.toml").write_text(
        'task = "imagefolder"\ncalibration = "set/train"\nevaluation = "set/val"\nimage_size = 16\n'
        'arch = ["random:4"]\nbs = [8]\nsamples = [16]\n'
        '[train]\nsampling = "uniform"\ntrainable = ["all", "norm"]\nbatch_size = 8\nepochs = 1\n'
    )
    ran = bnrecal("rank", "--study", "study.toml", "--judge", "eval,bn,flops", "--format", "json")
    assert ran.code == 0, ran.err
    judges = json.loads(ran.out)["judges"]
    assert sorted(judges) == [
        *("bn, trainable all", "bn, trainable norm"),
        *("eval pooled bs 8 n 16, trainable all", "eval pooled bs 8 n 16, trainable norm"),
        "flops",
    ]
    one, other = (judges[name]["values"] for name in judges if name.startswith("bn"))
    assert one.keys() == other.keys()
    assert one != other


def test_a_cold_average_is_said_to_turn_orders_round(bnrecal: Callable[..., Any]) -> None:
    """Of 4 updates .9^4 of the start is left: a note, for that setting alone; of 64 updates none is."""
    study = ("rank", "--task", "tiny", "--arch", "arch1,arch2,arch3", "--judge", "eval", "--threads", "1")
    cold = bnrecal(*study, "--estimator", "ema,pooled", "--bs", "16", "--samples", "64", "--out", "cold")
    assert cold.code == 0, cold.err
    said = " ".join(cold.out.split())
    assert said.count("ranks by statistics that are still") == 1
    assert "eval ema 0.1 bs 16 n 64 ranks by statistics that are still 66 % their start" in said
    warm = bnrecal(*study, "--estimator", "ema,pooled", "--bs", "1", "--samples", "64", "--out", "warm")
    assert warm.code == 0, warm.err
    assert "their start" not in warm.out


def test_a_race_finds_the_best(bnrecal: Callable[..., Any]) -> None:
    """The best two by the whole evaluation set are those of the race; it says how sure it is."""
    archs = ("--task", "tiny", "--arch", "random:12", "--bs", "16", "--samples", "64", "--threads", "1")
    whole = json.loads(bnrecal("rank", *archs, "--judge", "eval", "--format", "json").out)["judges"]
    (values,) = (judge["values"] for judge in whole.values())
    best = sorted(values, key=lambda arch: -values[arch])[:2]
    ran = bnrecal("rank", *archs, "--judge", "eval", "--race", "2", "--format", "json", "--out", "raced")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert set(found["best"]) == set(best)
    assert found["looks"][-1]["images"] <= 256
    assert [line for line in ran.err.splitlines() if "race" in line or line.startswith("looked")] == [
        "a race of 12 for the best 2, on 64 images",
        "looked at 64 images: 0 dropped, 12 kept",
    ]
    assert "best" in found["says"]
    assert not Path("raced").exists()
    ran = bnrecal("rank", *archs, "--judge", "bn", "--race", "2")
    assert ran.code == 2
    assert "--race: needs judge eval at one setting" in ran.err


def test_looks_double_up_to_all_images() -> None:
    """Of fewer images than a first look there is one."""
    from bnrecal.cli.race import looks

    assert looks(2048) == [256, 512, 1024, 2048]
    assert looks(1000) == [256, 512, 1000]
    assert looks(64) == [64]
