"""Judges: what each says, and where it has nothing to say."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from bnrecal import networks
from bnrecal.errors import BnrecalError
from bnrecal.networks.embedded import SPACE
from bnrecal.networks.supernet import Block
from bnrecal.search.judges import (
    bn_scores,
    check_judge,
    operation_score,
    own_judge,
    random_score,
    total,
)


def operation(*gammas: float) -> nn.Sequential:
    """Two BatchNorms, of which the last has these scales."""
    layers = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, len(gammas), 1))
    layers.append(nn.BatchNorm2d(len(gammas)))
    with torch.no_grad():
        layers[1].weight.fill_(100.0)
        layers[3].weight.copy_(torch.tensor(gammas))
    return layers


def test_the_indicator_is_the_mean_of_absolute_scales_of_the_last_norm() -> None:
    """Signs do not cancel, and the BatchNorm inside does not count."""
    assert operation_score(operation(1.0, -3.0), "it") == 2.0


class Skip(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize(
    "operation", [None, nn.Identity(), Skip(), nn.MaxPool2d(2), nn.Sequential(Skip(), nn.ReLU())]
)
def test_an_operation_that_learns_nothing_scores_zero(operation: nn.Module | None) -> None:
    """As skipped layers do in BN-NAS' code."""
    assert operation_score(operation, "it") == 0.0


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Conv2d(1, 1, 1), "choice 3 of layer 2 has no BatchNorm"),
        (nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, affine=False)), r"affine=False"),
    ],
)
def test_without_a_learnt_scale_it_is_undefined(module: nn.Module, message: str) -> None:
    """Said in one line that names the choice."""
    with pytest.raises(BnrecalError, match=f"--judge bn: .*{message}.*undefined"):
        bn_scores(SPACE, lambda at, c: module if (at, c) == (2, 3) else nn.BatchNorm2d(1))


@pytest.mark.parametrize("scale", [math.nan, math.inf])
def test_a_scale_that_is_no_number_is_refused(scale: float) -> None:
    """Named by its place; a sum with it would rank nothing."""
    norm = nn.BatchNorm2d(2)
    nn.init.constant_(norm.weight, scale)
    with pytest.raises(BnrecalError, match=r"--judge bn: the scale of .* choice c of layer 1 is not finite"):
        operation_score(nn.Sequential(norm), "choice c of layer 1")


def test_scores_by_choice_sum_to_that_of_the_subnet() -> None:
    """The table of 32 operations gives for any architecture what its built network shows."""
    source = networks.get()
    scores = bn_scores(SPACE, source.candidate)
    for arch in SPACE.random(5, 2):
        norms = [
            [m for m in block.operation.modules() if isinstance(m, nn.BatchNorm2d)][-1]
            for block in source.build(arch).module.modules()
            if isinstance(block, Block)
        ]
        assert len(norms) == 8
        by_hand = sum(norm.weight.double().abs().mean().item() for norm in norms)
        assert total(scores, SPACE.decode(arch)) == pytest.approx(by_hand, rel=1e-12)


def test_random_is_a_function_of_name_and_seed() -> None:
    """The same again, another for another seed, and spread over [0, 1)."""
    found = [random_score(arch, 0) for arch in SPACE.random(400, 0)]
    assert found == [random_score(arch, 0) for arch in SPACE.random(400, 0)]
    assert random_score("a", 0) != random_score("a", 1)
    assert 0 <= min(found) < 0.05
    assert 0.95 < max(found) < 1
    assert abs(sum(found) / 400 - 0.5) < 5 / math.sqrt(12 * 400)


def test_unknown_judges_are_refused() -> None:
    """With those that there are; module:function is let through."""
    with pytest.raises(
        BnrecalError, match=r"--judge: unknown judge 'acc'; valid: bn, eval, .*module:function"
    ):
        check_judge("acc")
    check_judge("mine:judge")
    check_judge("bn")


OWN = """
def depth(module, arch): return len(list(module.modules())) + len(arch)
def brightness(images=None): return images.mean()
def broken(module): raise ValueError("no")
def endless(arch): return float("inf")
def greedy(module, labels): return 1
def anything(**given): return len(given)
def by_place(arch, /): return 1
def leaves(arch): raise SystemExit(3)
def chatty(arch):
    print("judging", arch)
    return 1
number = 3
def text(arch):
    return "0.5"
def beyond(arch):
    return 10**400
def nothing(arch):
    pass
def several(arch):
    import torch
    return torch.ones(2)
def on_its_graph(arch):
    import torch
    return torch.ones((), requires_grad=True) * 2
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_judges_here.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("own")
def test_a_judge_of_ones_own() -> None:
    """It gets the arguments it names and no others."""
    given = {"module": nn.ReLU(), "arch": "abc", "images": torch.ones(2, 1, 4, 4)}
    assert own_judge("own_judges_here:depth")(given) == 4
    assert own_judge("own_judges_here:brightness")(given) == 1
    assert own_judge("own_judges_here:anything")(given) == 3
    assert own_judge("own_judges_here:on_its_graph")(given) == 2


@pytest.mark.usefixtures("own")
def test_what_a_judge_prints_is_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """stdout carries the report alone."""
    own_judge("own_judges_here:chatty")({"module": nn.ReLU(), "arch": "abc", "images": None})
    assert capsys.readouterr() == ("", "judging abc\n")


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", r"\(abc\) raised ValueError: no"),
        ("endless", r"\(abc\) gives inf"),
        ("greedy", "needs labels; allowed arguments: module, arch, images"),
        ("number", "is a int, not a function"),
        ("by_place", "needs arch by position; allowed arguments: module, arch, images"),
        ("leaves", r"\(abc\) raised SystemExit: 3"),
        ("text", r"\(abc\) gives a str; needs a finite number"),
        ("beyond", r"\(abc\) gives a int; needs a finite number"),
        ("nothing", r"\(abc\) gives a NoneType; needs a finite number"),
        ("several", r"\(abc\) gives a Tensor; needs a finite number"),
        ("missing", "has no 'missing'"),
    ],
)
def test_a_judge_that_fails_is_named(name: str, message: str) -> None:
    """Function, architecture and what is wrong, in one line."""
    with pytest.raises(BnrecalError, match=message):
        own_judge(f"own_judges_here:{name}")({"module": nn.ReLU(), "arch": "abc", "images": None})
