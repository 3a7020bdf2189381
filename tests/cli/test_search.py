"""`bnrecal search`: the optimum, its bounds, and that it may be stopped at any moment."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnrecal import networks
from bnrecal.networks.embedded import SPACE
from bnrecal.search.judges import bn_scores, total
from bnrecal.store.store import Store
from tests.executors.processes import finish, start, until

BOUND = ("--max-flops", "12M")
SMALL = ("search", "--task", "tiny", "--threads", "1", *BOUND)
FEW = ("--population", "6", "--generations", "3", "--bs", "16", "--samples", "64")


def as_json(ran: Any) -> dict[str, Any]:
    assert ran.code == 0, ran.err
    found: dict[str, Any] = json.loads(ran.out)
    return found


def test_the_evolution_finds_the_exact_optimum(bnrecal: Callable[..., Any]) -> None:
    """Of the BN indicator under a bound on FLOPs: dynamic programming and 20 generations name one subnet."""
    exact = as_json(bnrecal(*SMALL, "--judge", "bn", "--format", "json", "--out", "exact"))
    evolved = as_json(
        bnrecal(*SMALL, "--judge", "bn", "--method", "evolution", "--format", "json", "--out", "evolved")
    )
    assert (exact["method"], evolved["method"]) == ("exact", "evolution")
    best = exact["best"][0]
    assert best["flops"] <= 12_000_000
    assert {k: evolved["best"][0][k] for k in ("arch", "score", "flops")} == {
        k: best[k] for k in ("arch", "score", "flops")
    }
    scores = bn_scores(SPACE, networks.get().candidate)
    assert best["score"] == total(scores, SPACE.decode(best["arch"]))
    archs = [one["arch"] for one in evolved["best"]]
    assert len(set(archs)) == len(archs) == 1000
    assert max(one["flops"] for one in evolved["best"]) <= 12_000_000
    assert evolved["costs"] == {"bn": {"architectures": 1000, "seconds": evolved["costs"]["bn"]["seconds"]}}


def test_bounds_and_forbidden_choices_hold(bnrecal: Callable[..., Any]) -> None:
    """Of both costs and of a choice nobody may take, for either method."""
    bounds = ("--max-flops", "14M", "--max-params", "150k", "--forbid", "0:0,*:3", "--format", "json")
    for method in ("exact", "evolution"):
        ran = bnrecal(
            "search", "--task", "tiny", "--judge", "bn", "--method", method, *bounds, "--out", method
        )
        for one in as_json(ran)["best"]:
            assert one["flops"] <= 14_000_000
            assert one["params"] <= 150_000
            assert one["arch"][0] != "0"
            assert "3" not in one["arch"]


def test_killed_it_ends_with_the_same_result(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """SIGKILL in the second generation; the same command ends with the rows and the answer of one that ran
    through, and does nothing twice.
    """
    whole = as_json(bnrecal(*SMALL, *FEW, "--format", "json", "--out", "whole"))
    out = tmp_path / "killed"
    process = start(*SMALL, *FEW, "--out", out)
    until(lambda: (out / "search.json").is_file())
    process.kill()
    process.communicate()
    assert len(Store(out).rows()) < 18, "it was done before it could be killed"
    finish(start(*SMALL, *FEW, "--out", out))
    again = as_json(bnrecal("report", out, "--format", "json"))
    without_times = {name: whole[name] for name in whole if name != "costs"}
    assert {name: again[name] for name in without_times} == without_times
    rows = Store(out).rows()
    assert len({row["key"] for row in rows}) == len(rows) == 18


def test_processes_search_as_one_does(bnrecal: Callable[..., Any]) -> None:
    """-j 2: the same generations."""
    one = as_json(bnrecal(*SMALL, *FEW, "--format", "json", "--out", "one"))
    two = as_json(bnrecal(*SMALL, *FEW, "--format", "json", "--out", "two", "-j", "2"))
    assert two["best"] == one["best"]


def test_the_report_needs_the_folder_alone(bnrecal: Callable[..., Any]) -> None:
    """Best architectures, cost by judge; progress and trade-off as figures."""
    ran = bnrecal(*SMALL, *FEW)
    assert ran.code == 0, ran.err
    assert bnrecal("report").out == ran.out
    assert "18 architectures of 3 generations judged by eval pooled bs 16 n 64" in ran.out
    assert "## Search" in bnrecal("report", "--format", "md").out
    found = as_json(bnrecal("report", "--format", "json"))
    assert [one["score"] for one in found["best"]] == sorted(
        (o["score"] for o in found["best"]), reverse=True
    )
    best = [step["best"] for step in found["progress"]]
    assert best == sorted(best)
    assert best[-1] == found["best"][0]["score"]
    flops = [one["flops"] for one in found["front"]]
    scores = [one["score"] for one in found["front"]]
    assert flops == sorted(flops)
    assert scores == sorted(scores)
    assert found["front"][-1] == found["best"][0]
    drawn = bnrecal("report", "--figures", "figures").out.split()
    assert {Path(path).name for path in drawn} == {
        f"{name}.{kind}" for name in ("progress", "pareto") for kind in ("svg", "png")
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--max-flops", "5M"),
            "--max-flops 5,000,000: no architecture is within; the least is 7,684,096 flops",
        ),
        (("--max-flops", "much"), "--max-flops: 'much'; allowed: a number, such as 475M or 300k"),
        (("--forbid", "9:0"), "--forbid: '9:0': layers are 0 to 7"),
        (("--method", "exact"), "--method exact: judge eval does not add up over layers"),
        (("--estimator", "pooled,ema"), "--judge eval: at 2 settings; a search goes by one"),
        (("--judge", "taste"), "--judge: unknown judge 'taste'"),
        (("--model", "torchvision:resnet18", "--task", "imagefolder"), "names no choices"),
    ],
)
def test_what_cannot_be_is_one_line(
    bnrecal: Callable[..., Any], tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    """No search begins."""
    from tests.own_images import folder_options, write_class_folders

    write_class_folders(tmp_path, n=40, size=32)
    given = ("--task", "tiny") if "--task" not in options else folder_options(tmp_path)
    ran = bnrecal("search", *given, *options)
    assert ran.code == 2
    assert message in ran.err


def test_a_damaged_search_file_is_told(bnrecal: Callable[..., Any]) -> None:
    """And made again by the same command."""
    bnrecal(*SMALL, "--judge", "bn")
    Path("results/search.json").write_text("{")
    ran = bnrecal("report")
    assert ran.code == 2
    assert "search.json: damaged; the same `bnrecal search` writes it again" in ran.err
    bnrecal(*SMALL, "--judge", "bn")
    assert bnrecal("report").code == 0
