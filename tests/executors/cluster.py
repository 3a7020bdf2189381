"""A real Ray cluster of two nodes on this machine, in a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.executors.processes import PATIENCE_S

_CLUSTER = """
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


@contextmanager
def two_nodes(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """With a processor each; the process' first line is the address, and "kill" kills the second node."""
    process = subprocess.Popen(
        [sys.executable, "-c", _CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=folder,
    )
    try:
        yield process
    finally:
        process.communicate(timeout=PATIENCE_S)


def address_of(cluster: "subprocess.Popen[str]") -> str:
    """Once, when it stands."""
    assert cluster.stdout is not None
    return cluster.stdout.readline().strip()
