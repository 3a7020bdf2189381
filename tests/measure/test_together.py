"""Subnets measured together against the same subnets measured one by one."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from bnrecal import tasks
from bnrecal.errors import NotANumberError
from bnrecal.measure.images import FORWARD_IMAGES, ForwardSize
from bnrecal.measure.measured import Measured
from bnrecal.measure.prefixes import grouped
from bnrecal.measure.recalibrated import measure
from bnrecal.measure.together import Group, growing_evidence, measure_group, race_order
from bnrecal.metrics.resampling import resampled
from bnrecal.networks.embedded import EmbeddedSupernet
from bnrecal.networks.supernet import Supernet
from bnrecal.plan.grid import cells_of
from bnrecal.plan.opened import Opened
from bnrecal.study.cells import Cell, Pass
from bnrecal.study.study import make_study

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
    return cells_of(
        Opened.of(
            make_study(
                {"task": "tiny", "baseline": False, "arch": archs, "bs": [16], "samples": [64], **settings}
            )
        )
    )


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


def test_growing_evidence_is_that_of_single_cells() -> None:
    """On the first 40 images, then on all by some: what a single cell's evidence says of these images, and
    nothing of who was left out or failed."""
    source, task = Broken(float("nan")), tasks.get("tiny")
    todo = cells()
    evaluate = growing_evidence(todo, task, source, CPU)
    good = [cell for cell in todo if not cell.arch.endswith("3")]
    first = evaluate([cell.arch for cell in todo], 40)
    assert first.keys() == {cell.arch for cell in good}
    rest = evaluate([good[0].arch], task.n_evaluation)
    assert rest.keys() == {good[0].arch}
    alone = one_by_one(good[0], EmbeddedSupernet()).evidence
    once = np.ones((task.n_evaluation, 1), np.int32)
    assert resampled(rest[good[0].arch], once) == resampled(alone, once)
    once[race_order(task.n_evaluation)[40:]] = 0  # images that were not seen
    assert resampled(first[good[0].arch], once[:40] * 0 + 1) == resampled(alone, once)


def test_a_race_sees_images_in_random_order() -> None:
    """Each once, the same again, and not by position: sets may be sorted by class."""
    order = race_order(500)
    assert sorted(order.tolist()) == list(range(500))
    assert np.array_equal(order, race_order(500))
    assert abs(np.corrcoef(order, np.arange(500))[0, 1]) < 0.2


def test_calibrated_images_are_told_once_a_subnet() -> None:
    """For progress: n_samples for each cell of the group."""
    source = EmbeddedSupernet()
    (group,), _ = grouped(cells(), source)
    told: list[int] = []
    Group(group, tasks.get("tiny"), source, CPU).calibrate(told.append)
    assert told == [64] * len(group)


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
    alone_of: dict[str, np.ndarray] = {}
    for cell, outcome in measure_group(group, task, source, CPU, lambda _: None):  # type: ignore[arg-type]
        assert isinstance(outcome, Measured)
        built = copy.deepcopy(source.build(cell.arch))
        alone = next(measure(Pass((cell,)), task, built, CPU, lambda _: None, update_metric=False))  # type: ignore[arg-type]
        assert outcome.eval == alone.eval
        alone_of[cell.arch] = alone.evidence["correct"]
        assert np.array_equal(outcome.evidence["correct"], alone.evidence["correct"])
    some = growing_evidence(todo, task, source, CPU)([cell.arch for cell in todo], 30)  # type: ignore[arg-type]
    assert all(np.array_equal(some[c.arch]["correct"], alone_of[c.arch][race_order(96)[:30]]) for c in todo)
