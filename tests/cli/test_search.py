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


def test_a_stopped_search_is_reported_as_such(bnrecal: Callable[..., Any]) -> None:
    """Its file as a kill after the first of two generations leaves it; the same command ends it."""
    command = ("search", "--task", "tiny", "--judge", "random", "--population", "4", "--generations", "2")
    bnrecal(*command)
    path = Path("results/search.json")
    whole = path.read_bytes()
    kept = json.loads(whole)
    path.write_text(json.dumps({**kept, "generations": kept["generations"][:1], "ended": False}))
    note = "Note: it has not ended: 1 of 2 generations; the same command goes on."
    assert note in bnrecal("report").out
    assert bnrecal(*command).code == 0
    assert path.read_bytes() == whole
    assert note not in bnrecal("report").out


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


SUPERNET = """
def fails(arch):
    raise ValueError("no opinion")

import torch
from torch import nn

class Net:
    choices = (("a", "b"),) * 8
    archs = ("-".join("a" * 8),)

    def __init__(self, n_classes):
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8))
        self.layers = [[block(1), block(3)] for _ in self.choices]
        self.extra = block(5)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, n_classes))

    def candidate(self, layer, choice):
        return self.layers[layer][choice]

    def build(self, arch):
        taken = [self.layers[at]["ab".index(c)] for at, c in enumerate(arch.split("-"))]
        if arch == "-".join("b" * 8):
            taken.append(self.extra)  # one of 256 costs more than the sum of its layers
        return nn.Sequential(self.stem, *taken, self.head)

def block(kernel):
    return nn.Sequential(nn.Conv2d(8, 8, kernel, padding=kernel // 2), nn.BatchNorm2d(8), nn.ReLU())

def adds_up(n_classes):
    net = Net(n_classes)
    net.extra = nn.Identity()
    return net

def supernet(n_classes):
    return Net(n_classes)

class Wide(Net):  # widths that depend on each other: every architecture is counted by itself
    choices = (("4", "8"), ("4", "8"))
    archs = ("4-4", "8-8")

    def build(self, arch):
        first, second = map(int, arch.split("-"))
        return nn.Sequential(
            nn.Conv2d(3, first, 3, 2), nn.BatchNorm2d(first),
            nn.Conv2d(first, second, 3), nn.BatchNorm2d(second),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(second, 2),
        )

def wide(n_classes):
    return Wide(n_classes)
"""


def own(tmp_path: Path, name: str, *more: str) -> tuple[str, ...]:
    from tests.own_images import folder_options, write_class_folders

    if not (tmp_path / "searched_net.py").exists():
        write_class_folders(tmp_path, n=40, size=32)
    (tmp_path / "searched_net.py").write_text(SUPERNET)
    return (
        "search",
        *folder_options(tmp_path),
        "--model",
        f"searched_net:{name}",
        "--image-size",
        "32",
        *more,
    )


def test_an_optimum_costs_what_it_says(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """Every layer at its dearest costs more than the sum, so there is no exact optimum by sums: evolution
    takes its place, with a note, and counts; asked for by name it is refused. Where they add up it stands."""
    ran = bnrecal(*own(tmp_path, "adds_up", "--judge", "flops", "--format", "json"))
    assert as_json(ran)["method"] == "exact"
    whole = as_json(ran)["best"][0]
    bound = str(whole["flops"])
    options = own(tmp_path, "supernet", "--judge", "flops", "--max-flops", bound, "--out", "rare")
    refused = bnrecal(*options, "--method", "exact")
    assert refused.code == 2
    assert "--method exact: costs of this space do not add up over layers" in refused.err
    ran = bnrecal(*options, "--format", "json")
    found = as_json(ran)
    assert found["method"] == "evolution"
    assert (
        "costs of this space do not add up over layers, so it is searched by evolution, not solved" in ran.err
    )
    assert found["notes"] == ["every architecture within the bounds was judged, so there is no better one"]
    assert whole["arch"] == "-".join("b" * 8)
    assert whole["arch"] not in {one["arch"] for one in found["best"]}
    assert len(found["best"]) == 255
    # nothing is bounded: the sum of scores has its optimum all the same
    free = bnrecal(*own(tmp_path, "supernet", "--judge", "bn", "--out", "free"))
    assert free.out.startswith("The exact optimum of bn")


@pytest.mark.parametrize("judge", ["flops", "params"])
def test_costs_that_do_not_add_up_are_no_exact_score(
    bnrecal: Callable[..., Any], tmp_path: Path, judge: str
) -> None:
    """Of a judge that is a cost: evolution with a note, a refusal of `--method exact`, without bounds too."""
    ran = bnrecal(*own(tmp_path, "wide", "--judge", judge, "--format", "json"))
    found = as_json(ran)
    assert (found["method"], found["best"][0]["arch"]) == ("evolution", "8-8")
    assert found["notes"] == ["every architecture was judged, so there is no better one"]
    assert "searched by evolution, not solved" in ran.err
    refused = bnrecal(*own(tmp_path, "wide", "--judge", judge, "--method", "exact", "--out", "other"))
    assert (refused.code, "--method exact: costs of this space do not" in refused.err) == (2, True)
    # one of 256 costs more than the sum, and no bound asks for sums: its score would be wrong all the same
    rare = bnrecal(*own(tmp_path, "supernet", "--judge", judge, "--format", "json", "--out", "rare"))
    assert as_json(rare)["best"][0]["arch"] == "-".join("b" * 8)


def test_a_small_space_within_no_bound_is_said_whole(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """All four architectures were tried, not some thousand drawn at random."""
    ran = bnrecal(*own(tmp_path, "wide", "--judge", "bn", "--method", "evolution", "--max-flops", "10"))
    assert ran.code == 2
    assert ran.err.endswith("--max-flops 10: none of all 4 architectures is within\n")


def test_a_search_in_which_some_failed_ends_with_3(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """As a sweep and a ranking do; what could be judged is reported."""
    ran = bnrecal(*own(tmp_path, "wide", "--judge", "searched_net:fails"))
    assert ran.code == 3
    assert ran.out.startswith("0 architectures of 1 generation judged by searched_net:fails.")
    assert "every architecture was tried" in ran.out
    assert "4 of 4 failed; the same command with --retry-failed does them again" in ran.err


def test_what_little_is_within_is_found(bnrecal: Callable[..., Any]) -> None:
    """The one architecture at the lowest cost of 65,536, by evolution; below it there is none."""
    ran = bnrecal(
        *("search", "--task", "tiny", "--judge", "random", "--max-flops", "7684096"),
        *("--population", "4", "--generations", "1", "--format", "json"),
    )
    found = as_json(ran)
    assert [one["flops"] for one in found["best"]] == [7_684_096]
    assert found["notes"] == [
        "from generation 1 on fewer than 4 were found that are new and within the bounds"
    ]


def test_measured_winners_owe_some_to_chance(bnrecal: Callable[..., Any]) -> None:
    """Said of scores on images, and not of a sum of weights; what was forbidden stands in the sentence."""
    measured = bnrecal(*SMALL, *FEW, "--forbid", "0:0").out.replace("\n", " ")
    assert "the best of many owes some of its to chance" in measured
    assert "within flops at most 12,000,000 without 0:0." in measured
    assert "chance" not in bnrecal(*SMALL, "--judge", "bn", "--out", "bn").out


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


def test_a_ranking_beside_a_search_is_reported_too(bnrecal: Callable[..., Any]) -> None:
    """Of the same folder: first what was searched, then what was ranked besides."""
    searched = bnrecal(*SMALL, "--judge", "bn").out
    assert bnrecal("report").out == searched
    ranked = bnrecal("rank", "--task", "tiny", "--arch", "random:12", "--judge", "random,params").out
    assert bnrecal("report").out == f"{searched}\n{ranked}"


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
        (
            ("--judge", "eval,bn"),
            "--judge eval,bn: a search goes by one judge; `bnrecal rank` compares",
        ),
        (("-o", "found.html"), "-o found.html: ends in '.html'; allowed: .txt, .md, .json, or --format"),
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
