"""A whole pass against the same study put together the plain way."""

import numpy as np
import pytest
import torch
from torch import nn

from bnrecal import networks, tasks
from bnrecal.measure.measured import Measured
from bnrecal.measure.recalibrated import measure
from bnrecal.metrics.boxes import Detections, GroundTruth
from bnrecal.metrics.map50 import map50
from bnrecal.networks.embedded import NAMED
from bnrecal.networks.head import detections
from bnrecal.networks.network import Network
from bnrecal.plan.grid import cells_of
from bnrecal.plan.opened import Opened
from bnrecal.plan.passes import passes_of
from bnrecal.recalibration.grouped import GroupedEvaluation
from bnrecal.study.cells import Cell
from bnrecal.study.study import make_study
from bnrecal.tasks.garments import Garments

CPU = torch.device("cpu")


def measured(**settings: object) -> list[Measured]:
    found = []
    for todo in passes_of(cells_of(Opened.of(make_study({"task": "tiny", "baseline": False, **settings})))):
        network = networks.get().build(todo.first.arch)
        found += measure(todo, tasks.get("tiny"), network, CPU, lambda _: None)
    return found


@torch.no_grad()
def plainly(cell: Cell) -> tuple[float, float]:
    """(update, eval) by the definition: train-mode step, evaluation forward, batch by batch."""
    task = tasks.get("tiny")
    assert isinstance(task, Garments)
    model = networks.get().build(cell.arch).module
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = cell.momentum
    ids = task.order(cell.seed)[: cell.n_samples]
    x = task.to_input(torch.from_numpy(task.calibration_images(ids)))
    parts = []
    for start in range(0, cell.n_samples, cell.batch_size):
        batch = x[start : start + cell.batch_size]
        model.train()
        model(batch)
        model.eval()
        parts.append((start, detections(model(batch))))
    truth = GroundTruth(len(ids), *task.training_scenes.objects(ids))
    n = task.n_evaluation
    held_out = GroundTruth(n, *task.validation_scenes.objects(np.arange(n)))
    images = task.to_input(torch.from_numpy(task.evaluation_images(0, n)))
    return map50(truth, Detections.join(parts)), map50(held_out, detections(model(images)))


@pytest.mark.parametrize("arch", ["arch1", "2-0-3-1-1-3-0-2"])
def test_one_pass_gives_what_each_cell_gives_by_itself(arch: str) -> None:
    """Shared walk, grouped prediction and folded evaluation against the definition, short batch too."""
    for result in measured(arch=[arch], bs=[8, 16], samples=[32, 64, 100]):
        update, evaluated = plainly(result.cell)
        assert result.update == pytest.approx(update, abs=1e-4)
        assert result.eval == pytest.approx(evaluated, abs=1e-4)


def test_two_runs_are_bit_identical() -> None:
    """Same machine, same figures to the last bit."""
    settings = {"arch": ["arch2"], "bs": [8], "samples": [64]}
    assert [(r.update, r.eval) for r in measured(**settings)] == [
        (r.update, r.eval) for r in measured(**settings)
    ]


def test_times_add_up() -> None:
    """A later count's update pass contains an earlier one's; a cell's total contains its parts."""
    short, long = measured(arch=["arch1"], bs=[8], samples=[64, 128])
    assert 0 < short.recal_s < long.recal_s
    for result in (short, long):
        assert result.total_s >= result.recal_s + result.update_s + result.eval_s


def test_uncalibrated_networks_find_nothing() -> None:
    """With mean 0 and variance 1 every named architecture scores under .02 on 512 scenes."""
    task = Garments("some", n_calibration=64, n_evaluation=512)
    x = task.to_input(torch.from_numpy(task.evaluation_images(0, 512)))
    for arch in NAMED:
        model = networks.get().build(arch).module.eval()
        with torch.inference_mode():
            assert task.score_evaluation([(0, detections(model(x)))]) < 0.02


def test_networks_that_cannot_be_grouped_give_the_same_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way batch by batch, for BatchNorms of unknown types, against the grouped one."""
    settings = {"arch": ["arch3"], "bs": [8], "samples": [64, 100]}
    grouped = measured(**settings)
    monkeypatch.setattr(GroupedEvaluation, "can_serve", staticmethod(lambda model: False))
    for one, other in zip(grouped, measured(**settings), strict=True):
        assert other.update == pytest.approx(one.update, abs=1e-4)
        assert other.eval == one.eval


class Halves(nn.Module):
    """Its first BatchNorm sees two halves of every image as items of their own."""

    def __init__(self, subnet: nn.Module) -> None:
        super().__init__()
        self.norm, self.subnet = nn.BatchNorm2d(1), subnet

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        halves = self.norm(torch.cat(x.chunk(2, 3)))
        return self.subnet(torch.cat(halves.chunk(2), 3))


def halved(**settings: object) -> list[Measured]:
    found = []
    for todo in passes_of(cells_of(Opened.of(make_study({"task": "tiny", "baseline": False, **settings})))):
        network = Network(Halves(networks.get().build(todo.first.arch).module), detections)
        found += measure(todo, tasks.get("tiny"), network, CPU, lambda _: None)
    return found


def test_a_norm_that_sees_parts_of_images_is_served_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found out on the way, with the figures of the way batch by batch from the start."""
    settings = {"arch": ["arch3"], "bs": [8], "samples": [64, 100]}
    noticed = halved(**settings)
    monkeypatch.setattr(GroupedEvaluation, "can_serve", staticmethod(lambda model: False))
    assert [(r.update, r.eval) for r in halved(**settings)] == [(r.update, r.eval) for r in noticed]
    assert noticed[-1].eval > 0.3


def test_large_images_are_read_in_smaller_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many images are read at a time changes memory and no figure."""
    settings = {"arch": ["arch2"], "bs": [8], "samples": [64, 100]}
    usual = measured(**settings)
    monkeypatch.setattr("bnrecal.measure.images.READ_AHEAD_BYTES", 3 * 64 * 64 * 4 * 8)
    small = measured(**settings)
    assert [r.update for r in small] == pytest.approx([r.update for r in usual], abs=1e-4)
    assert [r.eval for r in small] == pytest.approx([r.eval for r in usual], abs=1e-4)
