"""A real Ray cluster of two nodes on this machine: the rows of inline, a node lost, files shipped."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.executors.processes import TINY, figures, finish, rows, start, until

pytest.importorskip("ray", reason="Ray is not installed (extra bnrecal[ray])")

GRID = (*TINY, "--arch", "arch1,arch2,arch3", "--bs", "4,8", "--samples", "64,128")
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster()
cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
second = cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
print(cluster.address, flush=True)
for line in sys.stdin:
    if line == "kill\\n":
        cluster.remove_node(second, allow_graceful=False)
        print("killed", flush=True)
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator["subprocess.Popen[str]"]:
    """Two nodes with a processor each, in a process of their own; "kill" kills the second."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=tmp_path_factory.mktemp("cluster"),
    )
    yield process
    process.communicate(timeout=30)


@pytest.fixture(scope="module")
def address(cluster: "subprocess.Popen[str]") -> str:
    assert cluster.stdout is not None
    return cluster.stdout.readline().strip()


def test_two_nodes_give_the_rows_of_inline_and_survive_a_loss(
    bnrecal: Callable[..., Any], cluster: "subprocess.Popen[str]", address: str, tmp_path: Path
) -> None:
    """Figures bit-identical to inline; then the same with a node killed while it worked."""
    assert bnrecal("sweep", *GRID, "--out", "inline").code == 0
    assert bnrecal("sweep", *GRID, "--executor", "ray", "--address", address, "--out", "ray").code == 0
    assert figures(tmp_path / "ray") == figures(tmp_path / "inline")

    longer = (*TINY, "--arch", "arch3", "--bs", "2,4", "--samples", "64,128", "--estimator", "exact")
    assert bnrecal("sweep", *longer, "--out", "inline-2").code == 0
    out = tmp_path / "ray-2"
    sweep = start("sweep", *longer, "--executor", "ray", "--address", address, "--out", out)
    until(lambda: (out / "rows.jsonl").exists() and rows(out))
    assert cluster.stdin is not None
    assert cluster.stdout is not None
    cluster.stdin.write("kill\n")
    cluster.stdin.flush()
    assert cluster.stdout.readline() == "killed\n"
    assert sweep.poll() is None  # in mid-sweep
    finish(sweep)
    assert figures(out) == figures(tmp_path / "inline-2")
