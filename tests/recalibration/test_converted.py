"""Exported, folded and quantised networks: an answer that holds, or one line that says what to do."""

import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.ao import quantization
from torch.ao.nn.intrinsic.qat import freeze_bn_stats
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchao.quantization import Int8DynamicActivationIntxWeightConfig, PerGroup, quantize_
from torchao.quantization.qat import QATConfig

import bnrecal
from bnrecal import BnrecalError
from bnrecal.recalibration.fold import folded
from tests.recalibration.test_recalibrate import deep_net, images
from tests.recalibration.test_unusual_models import agree, by_torch
from tests.recalibration.test_walk import everything, same

BATCHES = list(images(24).split(8))
PAIRS = [["0", "1", "2"], ["3", "4", "5"], ["6", "7"]]


@pytest.fixture(autouse=True)
def _old_quantisation() -> Iterator[None]:
    """torch.ao.quantization warns that it will go; networks prepared by it are still about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def exported(prepare: Callable[[nn.Module], nn.Module] = nn.Module.eval) -> Any:
    return torch.export.export(prepare(deep_net()), (BATCHES[0],))


@pytest.mark.parametrize("prepare", [nn.Module.eval, nn.Module.train])
@pytest.mark.parametrize("decomposed", [False, True])
def test_exported_programs_say_the_way_and_the_way_works(prepare: Any, decomposed: bool) -> None:
    """Recalibrate the source and write into the program: it then computes what the source does."""
    program = exported(prepare)
    if decomposed and prepare is nn.Module.eval:
        program = program.run_decompositions()
    with pytest.raises(BnrecalError, match=r"exported program.*report.statistics.write_to\(program.module"):
        bnrecal.recalibrate(program, BATCHES)
    with pytest.raises(BnrecalError, match=r"operations of a graph; recalibrate the module it was exported"):
        bnrecal.recalibrate(program.module(), BATCHES)
    source = deep_net()
    report = bnrecal.recalibrate(source, BATCHES)
    report.statistics.write_to(program.module())
    for name, buffer in program.state_dict.items():
        if "running" in name:
            assert torch.equal(buffer, source.get_buffer(name)), name
    if prepare is nn.Module.eval:
        with torch.no_grad():
            assert torch.allclose(program.module()(BATCHES[0]), source.eval()(BATCHES[0]), atol=1e-5)


@pytest.mark.parametrize("entry", [bnrecal.update_bn, bnrecal.diagnose, bnrecal.recalibrate])
def test_every_entry_says_it(entry: Callable[..., Any]) -> None:
    """update_bn, diagnose and recalibrate refuse an exported program with the same line."""
    program: Any = exported()
    arguments = (BATCHES, program) if entry is bnrecal.update_bn else (program, BATCHES)
    with pytest.raises(BnrecalError, match="the model is an exported program"):
        entry(*arguments)
    with (
        pytest.raises(BnrecalError, match="the model is an exported program"),
        bnrecal.recalibrated(program, BATCHES),
    ):
        pass


def test_the_graph_of_an_exported_program_is_not_taken_for_a_network_without_batchnorm() -> None:
    """update_bn passes over networks that have no BatchNorm, but not over one that hides them."""
    with pytest.raises(BnrecalError, match="operations of a graph"):
        bnrecal.update_bn(BATCHES, exported().module())


def test_what_is_no_module_is_said_to_be_none() -> None:
    model: Any = deep_net().state_dict()
    with pytest.raises(BnrecalError, match=r"the model is a OrderedDict; needs a torch\.nn\.Module"):
        bnrecal.recalibrate(model, BATCHES)


@pytest.mark.parametrize(
    "fold",
    [
        lambda m: nn.Sequential(fuse_conv_bn_eval(m[0], m[1]), m[2]),
        folded,
        lambda m: quantization.fuse_modules(m, PAIRS),
    ],
)
def test_folded_networks_have_nothing_left_to_recalibrate(fold: Callable[[nn.Module], nn.Module]) -> None:
    """Folded by torch, by us and by torch.ao: the line says to recalibrate before folding."""
    with pytest.raises(BnrecalError, match=r"none at all; where they were folded .* recalibrate before"):
        bnrecal.recalibrate(fold(deep_net().eval()), BATCHES)


def test_fused_for_training_is_recalibrated_like_the_original() -> None:
    """torch.ao's ConvBnReLU2d keeps its BatchNorm as a module: the same figures under another name."""
    fused = quantization.fuse_modules_qat(deep_net().train(), PAIRS)
    expected = by_torch(deep_net(), BATCHES)
    report = bnrecal.recalibrate(fused, BATCHES, estimator="cumulative")
    assert report.layers == ("0.1", "3.1", "6.1")
    assert agree(fused, expected)


def prepared(fused: bool) -> nn.Module:
    """deep_net with fake quantisers, as quantisation-aware training has them."""
    model = deep_net().train()
    if fused:
        model = quantization.fuse_modules_qat(model, PAIRS)
    model.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    ready: nn.Module = quantization.prepare_qat(model)
    ready(BATCHES[0])
    return ready


def test_a_convolution_that_scales_by_its_running_statistics_is_refused() -> None:
    """Prepared for quantisation-aware training: named, and nothing changed, frozen or not."""
    model = prepared(fused=True)
    for adjust in (lambda m: None, freeze_bn_stats):
        model.apply(adjust)
        before = everything(model)
        with pytest.raises(BnrecalError, match=r"0 \(ConvBnReLU2d\) scales its weights by the statistics"):
            bnrecal.recalibrate(model, BATCHES)
        assert same(everything(model), before)


def test_observers_are_refused_until_they_are_switched_off() -> None:
    """With observers on: one line, no range moved. Off: statistics as torch's, and no range moved."""
    model = prepared(fused=False)
    before = everything(model)
    with pytest.raises(BnrecalError, match="would take these images into the ranges it observes"):
        bnrecal.recalibrate(model, BATCHES)
    assert same(everything(model), before)
    model.apply(quantization.disable_observer)
    expected = by_torch(copy.deepcopy(model), BATCHES)
    ranges = {name: b.clone() for name, b in model.named_buffers() if "min_val" in name or "scale" in name}
    assert ranges
    bnrecal.recalibrate(model, BATCHES, estimator="cumulative")
    assert agree(model, expected)
    assert all(torch.equal(model.get_buffer(name), b) for name, b in ranges.items())


def test_observers_of_post_training_quantisation_are_refused() -> None:
    """These have no switch: recalibrate before preparing."""
    model = deep_net().eval()
    model.qconfig = quantization.get_default_qconfig("fbgemm")
    with pytest.raises(BnrecalError, match="or recalibrate before preparing"):
        bnrecal.recalibrate(quantization.prepare(model), BATCHES)


def test_torchaos_fake_quantised_layers_run_as_they_are() -> None:
    """They keep no ranges: BatchNorms beside them get torch's figures, and nothing else changes."""
    model = nn.Sequential(nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4))
    weights = Int8DynamicActivationIntxWeightConfig(weight_dtype=torch.int4, weight_granularity=PerGroup(32))
    quantize_(model, QATConfig(weights, step="prepare"))
    assert type(model[0]).__name__ == "FakeQuantizedLinear"
    batches = list(torch.randn(24, 32).split(8))
    expected = by_torch(model, batches)
    before = everything(model)["state"]
    bnrecal.recalibrate(model, batches, estimator="cumulative")
    assert agree(model, expected)
    after = everything(model)["state"]
    assert all(torch.equal(before[name], after[name]) for name in before if not name.startswith("1."))
