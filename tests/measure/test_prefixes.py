"""Subnets measured together against the same subnets measured one by one."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bnrecal import networks, tasks
from bnrecal.errors import BnrecalError, NotANumberError
from bnrecal.measure.images import FORWARD_IMAGES, ForwardSize
from bnrecal.measure.prefixes import (
    Chain,
    Group,
    chain_of,
    check_chain,
    grouped,
    measure_group,
    n_nodes,
    tree_of,
)
from bnrecal.measure.recalibrated import Measured, measure
from bnrecal.networks.embedded import EmbeddedSupernet
from bnrecal.networks.network import Network
from bnrecal.networks.supernet import Supernet
from bnrecal.study.cells import Cell, Pass
from bnrecal.study.study import make_study
from bnrecal.sweep.plan import cells_of

CPU = torch.device("cpu")
# three that part late, two that part early, one twice as a name and as digits
ARCHS = (
    "0-1-2-3-0-1-2-3",
    "0-1-2-3-0-1-2-0",
    "0-1-2-3-0-1-3-0",
    "3-1-2-3-0-1-2-3",
    "2-2-2-2-2-2-2-2",
    "arch2",
)


def cells(archs: Sequence[str] = ARCHS, **settings: object) -> list[Cell]:
    return cells_of(make_study({"task": "tiny", "arch": archs, "bs": [16], "samples": [64], **settings}))


def together(todo: Sequence[Cell], source: EmbeddedSupernet, size: int = 99) -> dict[Cell, Measured]:
    groups, alone = grouped(todo, source, size)
    assert not alone
    found: dict[Cell, Measured] = {}
    for group in groups:
        for cell, outcome in measure_group(group, tasks.get("tiny"), source, CPU, lambda _: None):
            assert isinstance(outcome, Measured)
            found[cell] = outcome
    return found


def one_by_one(cell: Cell, source: EmbeddedSupernet) -> Measured:
    network = source.build(cell.arch)
    return next(measure(Pass((cell,)), tasks.get("tiny"), network, CPU, lambda _: None, update_metric=False))


@pytest.mark.parametrize(
    "settings",
    [
        {"estimator": ["pooled"]},
        {"estimator": ["ema"], "momentum": [0.3], "seed": 4},
        {"estimator": ["cumulative"], "samples": [70]},
    ],
    ids=["pooled", "ema", "cumulative, a short last batch"],
)
def test_figures_are_those_of_single_cells_bit_for_bit(settings: dict[str, object]) -> None:
    """Metric and evidence of every subnet, for each estimator that reads the images once."""
    source = EmbeddedSupernet()
    found = together(cells(**settings), source)
    assert len(found) == len(ARCHS)
    for cell, outcome in found.items():
        alone = one_by_one(cell, source)
        assert outcome.eval == alone.eval
        assert outcome.evidence.keys() == alone.evidence.keys()
        assert all(np.array_equal(outcome.evidence[k], alone.evidence[k]) for k in alone.evidence)
        assert outcome.update is None
    assert len({outcome.eval for outcome in found.values()}) == len(ARCHS) - 1


def test_groups_change_no_figure() -> None:
    """Trees of two subnets give what one tree gives; groups hold neighbours and settings of one kind."""
    source = EmbeddedSupernet()
    todo = cells(bs=[8, 16])
    groups, _ = grouped(todo, source, 2)
    assert sorted(map(len, groups)) == [2] * 6
    assert all(len({cell.batch_size for cell in group}) == 1 for group in groups)
    in_pairs, in_one = together(todo, source, 2), together(todo, source)
    assert {c: r.eval for c, r in in_pairs.items()} == {c: r.eval for c, r in in_one.items()}


def test_each_beginning_is_computed_once() -> None:
    """Nodes of the tree counted by hand: 12 links a subnet, shared up to where paths part."""
    source = EmbeddedSupernet()

    def nodes(*archs: str) -> int:
        return n_nodes(tree_of([chain_of(source, arch) or () for arch in archs]))

    assert nodes("0-0-0-0-0-0-0-0") == nodes("arch1", "0-0-0-0-0-0-0-0") == 12
    assert nodes("0-0-0-0-0-0-0-0", "0-0-0-0-0-0-0-1") == 12 + 2  # the last block and the head behind it
    assert nodes("0-0-0-0-0-0-0-0", "1-0-0-0-0-0-0-0") == 2 * 12 - 2  # stem and transition alone
    every = [f"0-0-0-0-0-0-{a}-{b}" for a in range(4) for b in range(4)]
    assert nodes(*every) == 9 + 4 + 16 + 16


def test_neighbours_stand_together() -> None:
    """Cells come in the order of their chains, whatever order they were asked for in."""
    source = EmbeddedSupernet()
    every = [f"{a}-0-0-0-0-0-0-{b}" for b in range(4) for a in range(4)]
    groups, _ = grouped(cells(every), source, 4)
    assert sorted({cell.arch[0] for cell in group} for group in groups) == [{"0"}, {"1"}, {"2"}, {"3"}]


def test_what_is_no_chain_goes_the_old_way() -> None:
    """`exact` cells, and networks of sources that name no chain, are handed back."""
    source = EmbeddedSupernet()
    todo = cells(estimator=["exact", "pooled"])
    groups, alone = grouped(todo, source)
    assert {cell.estimator for cell in alone} == {"exact"}
    assert {cell.estimator for group in groups for cell in group} == {"pooled"}

    class WithoutChain(EmbeddedSupernet):
        def chain(self, arch: str) -> Chain | None:
            return None

    assert grouped(todo, WithoutChain()) == ([], todo)


def test_a_norm_at_two_places_is_no_chain() -> None:
    """Its statistics depend on what comes after its first call."""
    twice = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))

    class Repeated(EmbeddedSupernet):
        def chain(self, arch: str) -> Chain | None:
            return (twice, nn.ReLU(), twice)

    assert chain_of(Repeated(), "arch1") is None


def test_sources_are_left_as_they_were() -> None:
    """No tensor of the supernet changes, nor a mode, nor a forward."""
    source = EmbeddedSupernet()
    supernet = source._supernet
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    modes = [module.training for module in supernet.modules()]
    together(cells(), source)
    assert all(torch.equal(before[name], value) for name, value in supernet.state_dict().items())
    assert [module.training for module in supernet.modules()] == modes
    assert not any("forward" in module.__dict__ for module in supernet.modules())


class Broken(EmbeddedSupernet):
    """Operation 3 of the last block has weights that are not numbers."""

    def __init__(self, value: float) -> None:
        super().__init__()
        candidate = self.candidate(7, 3)
        assert candidate is not None
        with torch.no_grad():
            next(candidate.parameters()).fill_(value)


def test_only_subnets_through_a_broken_link_fail() -> None:
    """NaN in one operation: those that take it get the error that a single cell gets, the others their
    figures."""
    source, task = Broken(float("nan")), tasks.get("tiny")
    (group,), _ = grouped(cells(), source)
    found = dict(measure_group(group, task, source, CPU, lambda _: None))
    for cell, outcome in found.items():
        if cell.arch.endswith("3"):
            assert isinstance(outcome, NotANumberError)
            with pytest.raises(NotANumberError) as alone:
                one_by_one(cell, source)
            assert str(outcome) == str(alone.value)
        else:
            assert isinstance(outcome, Measured)
            assert outcome.eval == one_by_one(cell, EmbeddedSupernet()).eval


def test_a_frozen_norm_stays_frozen() -> None:
    """A BatchNorm in eval mode inside a network in train mode keeps its statistics, also where all of its
    link is in eval mode."""
    source = EmbeddedSupernet()
    source._supernet.stem.eval()
    (todo, *_) = cells()
    found = together([todo], source)[todo]
    assert found.eval == one_by_one(todo, source).eval
    assert found.eval != one_by_one(todo, EmbeddedSupernet()).eval


def test_where_memory_runs_out_fewer_images_go_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The portion is done again in smaller forwards, and the cell says how small."""
    usual = ForwardSize.run
    failed: list[int] = []

    def short_of_memory(self: ForwardSize, forward):  # type: ignore[no-untyped-def]
        def tried(n: int) -> object:
            if n == FORWARD_IMAGES:
                failed.append(n)
                raise MemoryError
            return forward(n)

        return usual(self, tried)

    source = EmbeddedSupernet()
    expected = together(cells(), source)
    monkeypatch.setattr(ForwardSize, "run", short_of_memory)
    found = together(cells(), source)
    assert failed
    for cell, outcome in found.items():
        assert outcome.evaluation_batch == FORWARD_IMAGES // 2
        assert outcome.eval == pytest.approx(expected[cell].eval, abs=1e-4)


def test_shares_of_seconds_add_up() -> None:
    """Every subnet bears a part, and one behind a shared beginning less than one by itself."""
    source = EmbeddedSupernet()
    found = together(cells(), source)
    for outcome in found.values():
        assert 0 < outcome.recal_s < outcome.total_s
        assert 0 < outcome.eval_s < outcome.total_s
        assert outcome.total_s >= outcome.recal_s + outcome.eval_s


def test_calibrated_images_are_told_once_a_subnet() -> None:
    """For progress: n_samples for each cell of the group."""
    source = EmbeddedSupernet()
    (group,), _ = grouped(cells(), source)
    told: list[int] = []
    Group(group, tasks.get("tiny"), source, CPU).calibrate(told.append)
    assert told == [64] * len(group)


def network() -> Network:
    return networks.get().build("arch1")


def test_chains_that_are_not_the_network_are_refused() -> None:
    """A link missing, a link that changes its input in place, and a forward of the network's own."""
    images = torch.randn(2, 1, 64, 64)
    whole = tuple(network().module.children())
    check_chain(network(), whole, images)
    shorter = (*whole[:2], *whole[3:])
    with pytest.raises(BnrecalError, match="do not give what the network gives"):
        check_chain(network(), shorter, images)
    with pytest.raises(BnrecalError, match=r"link 1 \(ReLU\) changes its input in place"):
        check_chain(network(), (whole[0], nn.ReLU(inplace=True), *whole[1:]), images)
    with pytest.raises(BnrecalError, match="forward of its own"):
        check_chain(replace(network(), forward=lambda module, x: module(x)), whole, images)


class Classes:
    """A tiny classification task: which half of the image is brighter."""

    name, metric, classes, input_shape, note = "halves", "top1", ("left", "right"), (1, 64, 64), None
    n_calibration, n_evaluation = 64, 96

    def order(self, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).permutation(self.n_calibration)

    def _images(self, stream: int, ids: np.ndarray) -> np.ndarray:
        images = np.random.default_rng(stream).integers(0, 256, (self.n_evaluation, 1, 64, 64))
        return images[ids].astype(np.uint8)

    def calibration_images(self, ids: np.ndarray) -> np.ndarray:
        return self._images(0, ids)

    def evaluation_images(self, start: int, stop: int) -> np.ndarray:
        return self._images(1, np.arange(start, stop))

    def to_input(self, images: Tensor) -> Tensor:
        return images.float() / 128 - 1

    def score_evaluation(self, parts: Sequence[tuple[int, np.ndarray]]) -> float:
        return float(self.evidence(parts)["correct"].mean())

    def evidence(self, parts: Sequence[tuple[int, np.ndarray]]) -> dict[str, np.ndarray]:
        images = self._images(1, np.arange(self.n_evaluation))
        right = images[..., 32:].sum((1, 2, 3)) > images[..., :32].sum((1, 2, 3))
        found = np.concatenate([part for _, part in parts])
        return {"correct": (found == right).astype(np.uint8)}


def test_classifiers_too(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """A supernet with a classifying head and its own weights: figures of single cells, bit for bit."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(Supernet(1, 2, "top1").state_dict(), tmp_path / "own.safetensors")
    task = Classes()
    source = EmbeddedSupernet(tmp_path / "own.safetensors", task)
    todo = [replace(cell, metric="top1") for cell in cells(samples=[32])]
    (group,), _ = grouped(todo, source)
    for cell, outcome in measure_group(group, task, source, CPU, lambda _: None):  # type: ignore[arg-type]
        assert isinstance(outcome, Measured)
        built = copy.deepcopy(source.build(cell.arch))
        alone = next(measure(Pass((cell,)), task, built, CPU, lambda _: None, update_metric=False))  # type: ignore[arg-type]
        assert outcome.eval == alone.eval
        assert np.array_equal(outcome.evidence["correct"], alone.evidence["correct"])
