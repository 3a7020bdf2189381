"""What a recalibration looks like: one screen of text, every layer in a notebook, nothing unescaped."""

import math
import re

import pytest
import torch
from torch import nn

import bnrecal
from bnrecal.recalibration.shift import Shift, shifts, stored
from bnrecal.recalibration.shown import table
from tests.recalibration.test_recalibrate import deep_net, images


def many(n: int = 200) -> nn.ModuleDict:
    """A network of many layers with long names, more reasons to leave layers alone than fit."""
    named: dict[str, nn.Module] = {f"stage{k}_{'block' * 12}": nn.BatchNorm2d(1) for k in range(n)}
    named |= {f"group{k}": nn.GroupNorm(1, 1) for k in range(30)} | {"layer": nn.LayerNorm(1)}
    named |= {"instance": nn.InstanceNorm2d(1), "untracked": nn.BatchNorm2d(1, track_running_stats=False)}
    return nn.ModuleDict({**named, "frozen": nn.BatchNorm2d(1).eval(), "unused": nn.BatchNorm2d(1)})


def run_all(model: nn.Module, x: torch.Tensor) -> None:
    for name, module in model.named_children():
        if name.startswith("stage"):
            module(x)


def test_the_repr_of_a_large_network_fits_a_screen() -> None:
    """At most 80 columns and 20 lines for 200 layers; counts are those of the report."""
    report = bnrecal.recalibrate(many(), list(images(12).split(4)), forward=run_all, frozen="by_mode")
    lines = repr(report).splitlines()
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("Recalibration: 12 images in 3 batches, 1 pass, ")
    assert lines[1].startswith("200 layers re-estimated; left alone: ")
    assert "and 190 layers that changed less" in lines
    text = " ".join(" ".join(lines).split())
    assert "group0 and 29 more (nothing to recalibrate: GroupNorm normalises each image by itself)" in text
    assert "other reasons in left_alone" in text


def test_the_repr_of_a_small_network() -> None:
    """Singular and plural, and every layer where there are few."""
    model = nn.BatchNorm2d(1)
    text = repr(bnrecal.recalibrate(model, [images(4)]))
    assert text.startswith("Recalibration: 4 images in 1 batch, 1 pass, ")
    assert "\n1 layer re-estimated\n" in text
    assert text.count("\n") < 10
    assert "the model itself" in text
    exact = repr(bnrecal.recalibrate(deep_net(), [images(4), images(4)], estimator="exact"))
    assert re.match(r"Recalibration: 8 images in 2 batches, \d passes, ", exact)
    assert "less" not in exact


def test_shifts_are_those_of_the_statistics_before_and_after() -> None:
    """The report's own shifts equal `shifts` of a copy kept by hand, and survive later changes."""
    model = deep_net()
    old = stored(model)
    report = bnrecal.recalibrate(model, images(16).split(8))
    expected = shifts(model, old, report.statistics)
    bnrecal.recalibrate(model, images(16, seed=1).split(8))
    assert report.shifts == expected
    assert [shift.layer for shift in report.shifts] == [shift.layer for shift in expected]


def test_the_notebooks_table_has_every_layer_and_escapes_names() -> None:
    """A name that is markup stays text."""
    model = many(30)
    evil = "<script>alert('x')</script>&"
    model[evil] = nn.BatchNorm2d(1)
    x = list(images(12).split(4))

    def forward(m: nn.Module, batch: torch.Tensor) -> None:
        run_all(m, batch)
        m.get_submodule(evil)(batch)

    shown = bnrecal.recalibrate(model, x, forward=forward, frozen="by_mode")._repr_html_()
    assert shown.count("<tr>") == 1 + 31
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&amp;" in shown
    assert "<script" not in shown


@pytest.mark.parametrize("broken", [math.nan, math.inf, -1.0])
def test_layers_from_broken_statistics_are_said_to_be(broken: float) -> None:
    """NaN, infinity and negative variances have no distance: words in both views, and first in order."""
    model = deep_net()
    model[4].get_buffer("running_var")[0] = broken
    report = bnrecal.recalibrate(model, images(16).split(8))
    assert report.shifts[0].layer == "4"
    assert repr(report).count("from NaN, inf or a negative variance") == 1
    assert report._repr_html_().count("from NaN, inf or a negative variance") == 1
    assert "nan" not in repr(report)
    assert max(map(len, repr(report).splitlines())) <= 80


def test_the_table_names_the_way_to_the_rest() -> None:
    """All layers without a limit; with one the hint stands behind the count."""
    some = [Shift(f"layer{k}", 8, 1.0, 2.0, 1.0, 0.5, 2.0, 1.5) for k in range(12)]
    assert any(line == "and 2 layers that changed less (--all)" for line in table(some, 10, " (--all)"))
    assert sum(line.startswith("layer") for line in table(some, None)) == 13
