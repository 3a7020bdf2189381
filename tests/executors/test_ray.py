"""A real Ray cluster of two nodes on this machine: the rows of inline, a node lost, files shipped."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bnrecal.executors.shipping import pack, unpack
from bnrecal.study.inputs import Inputs
from tests.executors.cluster import address_of, two_nodes
from tests.executors.processes import TINY, apart, figures, finish, rows, start, until
from tests.own_images import folder_options, write_class_folders
from tests.sweep import trained

pytest.importorskip("ray", reason="Ray is not installed (extra bnrecal[ray])")

GRID = (*TINY, "--arch", "arch1,arch3", "--bs", "4,8", "--samples", "64,128")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator["subprocess.Popen[str]"]:
    with two_nodes(tmp_path_factory.mktemp("cluster")) as process:
        yield process


@pytest.fixture(scope="module")
def address(cluster: "subprocess.Popen[str]") -> str:
    return address_of(cluster)


def test_two_nodes_give_the_rows_of_inline_and_survive_a_loss(
    bnrecal: Callable[..., Any], cluster: "subprocess.Popen[str]", address: str, tmp_path: Path
) -> None:
    """Figures bit-identical to inline; then the same with a node killed while it worked."""
    assert bnrecal("sweep", *GRID, "--out", "inline").code == 0
    # Ray's threads stay in a process that has used it: those sweeps are processes of their own.
    code, err = apart("sweep", *GRID, "--executor", "ray", "--address", address, "--out", "ray")
    assert code == 0, err
    assert figures(tmp_path / "ray") == figures(tmp_path / "inline")

    longer = (*TINY, "--arch", "arch3", "--bs", "2,4", "--samples", "64,128", "--estimator", "exact")
    assert bnrecal("sweep", *longer, "--out", "inline-2").code == 0
    out = tmp_path / "ray-2"
    sweep = start("sweep", *longer, "--executor", "ray", "--address", address, "--out", out)
    until(lambda: (out / "rows.jsonl").exists() and rows(out))
    sweep.send_signal(signal.SIGSTOP)  # so that it is in mid-sweep when the node goes, on any machine
    assert len(rows(out)) < 4
    assert cluster.stdin is not None
    assert cluster.stdout is not None
    cluster.stdin.write("kill\n")
    cluster.stdin.flush()
    assert cluster.stdout.readline() == "killed\n"
    sweep.send_signal(signal.SIGCONT)
    finish(sweep)
    assert figures(out) == figures(tmp_path / "inline-2")

    _a_node_gets_the_files_it_lacks(bnrecal, address)
    _trained_networks_travel(bnrecal, address, tmp_path)
    code, err = apart("sweep", *TINY[:2], "--threads", "64", "--executor", "ray", "--address", address)
    assert (code, err.count("\n")) == (2, 2)  # the line before it says what is to be done
    assert "--threads: 64: the largest node of the Ray cluster has 1 CPUs" in err


def _trained_networks_travel(bnrecal: Callable[..., Any], address: str, folder: Path) -> None:
    """A study that trains: rows and weights of inline, trained on one node and evaluated on any.

    Part of the test above, which has the cluster.
    """
    trained.write_study(folder / "learning")
    os.chdir(folder / "learning")
    assert bnrecal(*trained.SWEEP, "--out", "inline").code == 0
    code, err = apart(*trained.SWEEP, "--executor", "ray", "--address", address, "--out", "ray")
    assert code == 0, err
    assert trained.what_came_out(Path("ray")) == trained.what_came_out(Path("inline"))


MODULE = """
from torch import nn

def net():
    head = nn.Linear(3, 2)
    nn.init.eye_(head.weight), nn.init.zeros_(head.bias)
    return nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
"""


def _a_node_gets_the_files_it_lacks(bnrecal: Callable[..., Any], address: str) -> None:
    """Paths relative to a folder the nodes do not run in: refused there, shipped, then as inline.

    Part of the test above, which has the cluster.
    """
    write_class_folders(Path("set"))
    Path("own_nets.py").write_text(MODULE)
    options = (*folder_options(Path("set")), "--model", "own_nets:net", "--bs", "4", "--samples", "16,32")
    ran = bnrecal("sweep", *options, "--threads", "1", "--out", "own")
    assert ran.code == 0, ran.err
    ray = ("--executor", "ray", "--address", address)
    code, err = apart("sweep", *options, "--threads", "1", *ray, "--out", "shipped")
    assert code == 0, err
    assert figures(Path("shipped")) == figures(Path("own"))
    assert any((Path(os.environ["BNRECAL_CACHE_DIR"]) / "shipped").glob("*/settings/calibration/train"))


def test_a_ranking_is_that_of_inline(bnrecal: Callable[..., Any], address: str, tmp_path: Path) -> None:
    """Judgements and trees of subnets go through the same dispatch; a judge of one's own is not shipped."""
    archs = "0-0-0-0-0-0-0-0,1-1-1-1-1-1-1-1,3-3-3-3-3-3-3-3"
    small = ("rank", "--task", "tiny", "--arch", archs, "--bs", "16", "--samples", "64", "--threads", "1")
    judges = ("--judge", "eval,stored,bn,flops,random")
    assert bnrecal(*small, *judges, "--out", "inline").code == 0
    on_ray = ("--executor", "ray", "--address", address)
    code, err = apart(*small, *judges, *on_ray, "--out", "ray")
    assert code == 0, err

    def found(folder: str) -> dict[str, Any]:
        return {row["key"]: (row.get("eval"), row.get("score")) for row in rows(tmp_path / folder)}

    assert found("ray") == found("inline")
    assert len(found("ray")) == 3 * 5
    code, err = apart(*small, "--judge", "mine:judge", *on_ray)
    assert code == 2
    assert "--judge: mine:judge: a judge of your own is not taken to a cluster" in err


def test_what_is_packed_is_what_settings_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files, folders and the user's own module, into the cache; the same content packs to the same bytes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BNRECAL_CACHE_DIR", str(tmp_path / "cache"))
    write_class_folders(Path("set"), n=2)
    Path("own_nets.py").write_text(MODULE)
    Path("secret").write_text("not named by any setting")
    Path("tiny").mkdir()  # as a task is called
    inputs = Inputs(task="tiny", calibration="set/train", model="own_nets:net", weights="missing")
    bundle = pack(inputs)
    assert b"not named" not in bundle.archive
    assert pack(inputs) == bundle
    there = unpack(bundle, inputs)
    assert (there.task, there.model, there.weights) == (inputs.task, inputs.model, inputs.weights)
    assert there.calibration is not None
    assert Path(there.calibration).parent.parent.parent == tmp_path / "cache" / "shipped" / bundle.digest
    found = sorted(path.name for path in Path(there.calibration).rglob("*.png"))
    assert found == ["00.png", "00.png", "01.png", "01.png"]
    assert Path("own_nets.py").read_text() == MODULE  # the working folder is the unpacked one
    assert Path.cwd().name == bundle.digest


@pytest.mark.parametrize(
    ("address", "message"),
    [("127.0.0.1:1", "no Ray cluster answers: Connection refused"), ("nowhere", "allowed: HOST:PORT")],
)
def test_no_cluster_is_one_line(bnrecal: Callable[..., Any], address: str, message: str) -> None:
    """An address where nothing listens is refused at once, one of another form too."""
    ran = bnrecal("sweep", *GRID, "--executor", "ray", "--address", address)
    assert ran.code == 2
    assert f"--address: '{address}'" in ran.err.splitlines()[-1]
    assert message in ran.err.splitlines()[-1]
