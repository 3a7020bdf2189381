"""Several real processes over gloo: unequal shards give what one process gives."""

from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn

import bnrecal
from tests.recalibration.test_hard_cases import Repeated, SharedHead
from tests.recalibration.test_recalibrate import deep_net, images
from tests.recalibration.test_walk import RAGGED

Found = dict[tuple[str, str], list[Any]]
SHARDS = [[4, 4, 3], [5], []]  # batch sizes of three processes, one of them without any image


def shards() -> list[list[Tensor]]:
    """Each process's batches: consecutive images."""
    x = images(20)
    sizes = [n for shard in SHARDS for n in shard]
    batches = iter(x.split([*sizes, 20 - sum(sizes)]))
    return [[next(batches) for _ in shard] for shard in SHARDS]


def network(kind: str) -> nn.Module:
    if kind == "shared":
        torch.manual_seed(0)
        return Repeated(2)
    if kind == "head":
        return SharedHead()
    model = deep_net()
    return nn.SyncBatchNorm.convert_sync_batchnorm(model) if kind == "sync" else model


def failing(batches: list[Tensor]) -> Any:
    """Batches from a disk that fails."""
    yield from batches
    raise OSError("the disk is gone")


ALIKE = [
    ("ema", "shared"),
    ("cumulative", "plain"),
    ("pooled", "sync"),
    ("exact", "plain"),
    ("exact", "head"),
]
FAILING = [("pooled", "poison"), ("pooled", "broken")]
EVERY = [*ALIKE, ("pooled", "ragged"), *FAILING]


def recalibrated(rank: int, estimator: str, kind: str) -> tuple[dict[str, Tensor], str | None, bool]:
    """(buffers, error, whether any changed) of one process on its shard."""
    model, batches = network(kind), shards()[rank]
    source: Any = batches
    if kind == "ragged":
        model, source = nn.BatchNorm2d(1), RAGGED[rank : rank + 1]
    if kind == "poison" and rank == 1:
        batches[0][0] = float("nan")
    if kind == "broken" and rank == 1:
        source = failing(batches)
    before = {name: b.clone() for name, b in model.named_buffers()}
    try:
        bnrecal.recalibrate(model, source, estimator=estimator)
        error = None
    except (bnrecal.BnrecalError, OSError) as raised:
        error = str(raised)
    changed = any(not torch.equal(b, before[name]) for name, b in model.named_buffers())
    return dict(model.named_buffers()), error, changed


def work(rank: int, folder: str) -> None:
    """One process: every case in turn, so that processes start once."""
    torch.set_num_threads(1)
    init = f"file://{folder}/rendezvous"
    distributed.init_process_group("gloo", init_method=init, rank=rank, world_size=len(SHARDS))
    torch.save([recalibrated(rank, *case) for case in EVERY], f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def in_processes(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What each process found, by case."""
    folder = tmp_path_factory.mktemp("shards")
    multiprocessing.spawn(work, (str(folder),), nprocs=len(SHARDS))
    by_rank = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(len(SHARDS))]
    return {case: [found[at] for found in by_rank] for at, case in enumerate(EVERY)}


@pytest.mark.parametrize(("estimator", "kind"), ALIKE)
def test_unequal_shards_give_the_single_process_result(
    in_processes: Found, estimator: str, kind: str
) -> None:
    """Three batches, one and none: all processes end with one process's statistics, to 1e-6."""
    parts = shards()
    in_turn = [part[t] for t in range(3) for part in parts if t < len(part)]
    alone = network("plain" if kind == "sync" else kind)
    bnrecal.recalibrate(alone, in_turn, estimator=estimator)
    for buffers, error, _ in in_processes[estimator, kind]:
        assert error is None
        for name, value in alone.named_buffers():
            assert torch.allclose(buffers[name], value, rtol=1e-6, atol=1e-6), name


def test_two_workers_with_eight_and_two_images(in_processes: Found) -> None:
    """Eight images of 0 here, two of 10 there: all end with mean 2 and (biased) variance 16."""
    for buffers, error, _ in in_processes["pooled", "ragged"]:
        assert error is None
        assert buffers["running_mean"].item() == pytest.approx(2)
        assert buffers["running_var"].item() * 39 / 40 == pytest.approx(16)


@pytest.mark.parametrize(
    ("kind", "reason"), [("poison", "batch 0: NaN or infinity"), ("broken", "the disk is gone")]
)
def test_a_failing_process_is_named_in_all_and_nobody_waits(
    in_processes: Found, kind: str, reason: str
) -> None:
    """NaN or a failing disk in the second process: each gets the reason, no model is changed."""
    found = in_processes["pooled", kind]
    errors = [error for _, error, _ in found]
    assert errors[1].startswith(reason)
    assert errors[0] == errors[2] == f"process 1: {errors[1]}"
    assert not any(changed for _, _, changed in found)
