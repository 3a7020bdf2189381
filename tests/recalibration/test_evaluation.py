"""The two short cuts of evaluation give what evaluation mode gives."""

import copy

import torch
from torch import nn

from bnrecal import networks
from bnrecal.recalibration.estimators import Ema
from bnrecal.recalibration.fold import folded
from bnrecal.recalibration.grouped import GroupedEvaluation
from bnrecal.recalibration.statistics import Statistics
from bnrecal.recalibration.walk import Walk


def walked(arch: str, n_batches: int = 3) -> tuple[nn.Module, list[torch.Tensor], list[Statistics]]:
    """A shipped subnet, some batches (the last one short) and the statistics after each."""
    torch.manual_seed(0)
    module = networks.get().build(arch).module
    batches = [torch.randn(n, 1, 64, 64) for n in [4] * (n_batches - 1) + [2]]
    clean, after = copy.deepcopy(module).eval(), []
    with Walk(module, Ema(0.1)) as walk:
        for batch in batches:
            walk.step(batch)
            after.append(walk.statistics())
    return clean, batches, after


def test_grouped_equals_batch_by_batch() -> None:
    """Several batches in one forward, each under its own statistics, against one forward each."""
    for arch in ("arch2", "0-1-2-3-0-1-2-3"):
        clean, batches, after = walked(arch)
        expected = []
        for batch, statistics in zip(batches, after, strict=True):
            statistics.write_to(clean)
            expected.append(clean(batch))
        evaluation = GroupedEvaluation(copy.deepcopy(clean))
        groups = [(len(batch), s) for batch, s in zip(batches, after, strict=True)]
        found = evaluation.run(torch.cat(batches), groups)
        assert torch.allclose(found, torch.cat(expected), rtol=1e-4, atol=1e-4)


def test_folded_equals_unfolded() -> None:
    """Without any BatchNorm left on the path, the same outputs; the model itself is unchanged."""
    for arch in ("arch1", "arch2", "1-3-2-0-3-1-0-2"):
        clean, batches, after = walked(arch)
        after[-1].write_to(clean)
        fused = folded(clean)
        assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
        assert any(isinstance(m, nn.BatchNorm2d) for m in clean.modules())
        assert torch.allclose(fused(batches[0]), clean(batches[0]), rtol=1e-3, atol=1e-3)


def test_a_shared_convolution_is_not_folded() -> None:
    """One convolution before two BatchNorms: folding either would change the other."""
    conv = nn.Conv2d(1, 2, 1)
    first, second = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    second.running_mean = torch.tensor([5.0, -5.0])
    model = nn.ModuleDict({"a": nn.Sequential(conv, first), "b": nn.Sequential(conv, second)}).eval()
    fused = folded(model)
    x = torch.randn(3, 1, 4, 4)
    for name in "ab":
        assert torch.equal(fused[name](x), model[name](x))
