"""Which parameters have a layer-wise rate, and which are stepped together."""

import pytest
import torch
from torch import Tensor, nn

from bnrecal.errors import BnrecalError
from bnrecal.optimisers.adapted import Adapt, adapted, refuse_sparse, said, together

PARAMS = [nn.Parameter(torch.ones(shape)) for shape in ((2, 3), (2,), (), (1, 2, 3, 3))]


@pytest.mark.parametrize(
    ("adapt", "expected"),
    [
        ("weights", [True, False, False, True]),
        ("all", [True, True, True, True]),
        (None, [False, False, False, False]),
        (lambda p: p.ndim == 4, [False, False, False, True]),
        ([True, True, False, False], [True, True, False, False]),
    ],
)
def test_each_choice(adapt: Adapt, expected: list[bool]) -> None:
    assert adapted(adapt, PARAMS, "here") == expected


@pytest.mark.parametrize(
    ("adapt", "words"),
    [
        ("biases", "here: unknown adapt 'biases'; valid: 'weights', 'all', None, "),
        (3, "here: unknown adapt 3"),
    ],
)
def test_other_choices_are_refused(adapt: Adapt, words: str) -> None:
    """In one line that names the value, the place and the choices."""
    with pytest.raises(BnrecalError) as refused:
        adapted(adapt, PARAMS, "here")
    assert str(refused.value).startswith(words)


def test_truth_values_must_be_one_a_parameter() -> None:
    with pytest.raises(BnrecalError, match=r"here: adapt has 2 truth values for 4 parameters"):
        adapted([True, False], PARAMS, "here")


def test_the_exclusion_is_said() -> None:
    """The words count the adapted parameters, and name dimensions where those decide."""
    assert (
        said("weights", PARAMS) == "layer-wise rate for 2 of 4 parameters (those of more than one dimension)"
    )
    assert said("all", PARAMS) == "layer-wise rate for 4 of 4 parameters"


def on(device: str, dtype: torch.dtype) -> Tensor:
    p = torch.ones(2, 2, device=device, dtype=dtype, requires_grad=True)
    p.grad = torch.ones_like(p)
    return p


def test_lists_hold_one_device_dtype_and_flag() -> None:
    """Elsewhere than on the processor the lists are as long as those three allow; on it they hold one."""
    a, b, c, d = (on("meta", t) for t in (torch.float32, torch.float16, torch.float32, torch.float32))
    cpu = [on("cpu", torch.float32), on("cpu", torch.float32)]
    lists = together([a, b, c, d, *cpu], [True, True, True, False, True, True])
    found = [(flag, [id(p) for p in members]) for flag, members in lists]
    expected = [(True, [a, c]), (True, [b]), (False, [d]), (True, cpu[:1]), (True, cpu[1:])]
    assert sorted(found) == sorted((flag, [id(p) for p in members]) for flag, members in expected)


def test_parameters_without_a_gradient_are_left_out() -> None:
    with_gradient, without = on("cpu", torch.float32), torch.ones(2, requires_grad=True)
    assert [len(members) for _, members in together([without, with_gradient], [True, True])] == [1]
    assert not list(together([without], [True]))


def test_sparse_gradients_are_refused() -> None:
    """Named by parameter and group."""
    embedding = nn.Embedding(5, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(
        BnrecalError, match=r"^LARS: parameter 1 of group 0 has a sparse gradient; only dense"
    ):
        refuse_sparse([{"params": [PARAMS[0], embedding.weight]}], "LARS")
