"""LARS by hand, against SGD, timm's Lars and LARC, and in its invariants."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from timm.optim import Lars
from torch import Tensor, nn
from torch.optim import SGD

from bnrecal.errors import BnrecalError
from bnrecal.optimisers import LARC, LARS
from tests.optimisers import problems
from tests.optimisers.problems import after_steps, assert_close, assert_same


def weight(values: list[list[float]], gradient: list[list[float]]) -> nn.Parameter:
    w = nn.Parameter(torch.tensor(values, dtype=torch.float64))
    w.grad = torch.tensor(gradient, dtype=torch.float64)
    return w


def test_one_step_by_hand() -> None:
    """w = (3, 4), g = (0, 2), beta .1, eta .02, gamma .5: lambda = .02 * 5 / (2 + .1 * 5) = .04, and
    v = .5 * .04 * (g + .1 w) = .02 * (.3, 2.4) = (.006, .048)."""
    w = weight([[3, 4]], [[0, 2]])
    LARS([w], lr=0.5, weight_decay=0.1, trust_coefficient=0.02).step()
    assert_close([w.detach()], [torch.tensor([[2.994, 3.952]], dtype=torch.float64)])


def test_a_changed_rate_leaves_the_buffer_its_old_one() -> None:
    """The rate is inside the buffer: at lr = 0 the second step is momentum times the first, .9 (.006, .048);
    with the rate outside, as in torch's SGD, it would be nothing."""
    w = weight([[3, 4]], [[0, 2]])
    optimiser = LARS([w], lr=0.5, weight_decay=0.1, trust_coefficient=0.02)
    optimiser.step()
    optimiser.param_groups[0]["lr"] = 0.0
    optimiser.step()
    assert_close([w.detach()], [torch.tensor([[2.994 - 0.0054, 3.952 - 0.0432]], dtype=torch.float64)])


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_without_adaptation_it_is_sgd(momentum: float, nesterov: bool, decay: float) -> None:
    """At a constant rate, to rounding: the place of the rate makes no difference there."""
    settings = {"lr": 0.1, "momentum": momentum, "weight_decay": decay, "nesterov": nesterov}
    found = after_steps(lambda params: LARS(params, **settings, adapt=None), 8)  # type: ignore[arg-type]
    assert_close(found, after_steps(lambda params: SGD(params, **settings), 8))  # type: ignore[arg-type]


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("adapt", ["weights", "all"])
def test_the_paper_is_apex_at_a_constant_rate(nesterov: bool, decay: float, adapt: str) -> None:
    """The rate inside the buffer or outside: LARC's scale around SGD gives the same weights."""
    found = after_steps(
        lambda params: LARS(params, 0.1, 0.9, decay, 0.02, nesterov, adapt),  # type: ignore[arg-type]
        8,
    )
    expected = after_steps(
        lambda params: LARC(
            SGD(params, 0.1, 0.9, weight_decay=decay, nesterov=nesterov),
            clip=False,
            eps=0,
            adapt=adapt,  # type: ignore[arg-type]
        ),
        8,
    )
    assert_close(found, expected)


ENTRIES = st.one_of(st.just(0.0), st.floats(1e-3, 1e3), st.floats(-1e3, -1e-3))


@st.composite
def steps(draw: st.DrawFn) -> tuple[Tensor, list[Tensor]]:
    """A parameter of any shape and the gradients of three steps; zeros are common."""
    shape = draw(st_numpy.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    drawn = [draw(st_numpy.arrays("float64", shape, elements=ENTRIES)) for _ in range(4)]
    first, *others = [torch.from_numpy(values.copy()).reshape(shape) for values in drawn]
    return first, others


@given(
    steps(),
    st.floats(1e-3, 2),
    st.sampled_from([(0.0, False), (0.9, False), (0.5, True)]),
    st.sampled_from([0.0, 1e-4, 0.5]),
    st.sampled_from([1e-3, 2e-2, 1.0]),
)
def test_timm(
    problem: tuple[Tensor, list[Tensor]], lr: float, kind: tuple[float, bool], decay: float, eta: float
) -> None:
    """timm's Lars at a constant rate, told to adapt always and without its eps: the same weights for all
    shapes and values, zero norms included."""
    start, gradients = problem
    momentum, nesterov = kind
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    settings = {"lr": lr, "momentum": momentum, "weight_decay": decay, "nesterov": nesterov}
    a = LARS([ours], **settings, trust_coefficient=eta, adapt="all")  # type: ignore[arg-type]
    b = Lars([theirs], **settings, trust_coeff=eta, eps=0, always_adapt=True)
    for gradient in gradients:
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        a.step()
        b.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_one_dimensional_parameters_move_at_the_rate_itself() -> None:
    """By default a bias follows SGD, its weight decay included, and a matrix does not."""
    found = after_steps(lambda params: LARS(params, 0.1, weight_decay=0.1), 4)
    sgd = after_steps(lambda params: SGD(params, 0.1, 0.9, weight_decay=0.1), 4)
    for ours, theirs in zip(found, sgd, strict=True):
        assert torch.allclose(ours, theirs) == (ours.ndim == 1)


@given(st.floats(1e-4, 1e4))
def test_without_decay_the_gradients_size_does_not_matter(factor: float) -> None:
    """g -> c g leaves every step as it was."""
    shapes = ((3, 2), (2, 1, 2, 2))
    found = after_steps(lambda params: LARS(params, 0.5), 5, shapes, scale=factor)
    assert_close(found, after_steps(lambda params: LARS(params, 0.5), 5, shapes), rtol=1e-10)


def test_one_step_moves_a_layer_by_rate_times_trust_of_its_norm() -> None:
    """|w_1 - w_0| / |w_0| = gamma eta without weight decay."""
    shapes = ((3, 2), (2, 1, 2, 2))
    moved = after_steps(lambda params: LARS(params, 0.5, trust_coefficient=0.02), 1, shapes)
    for start, end in zip(problems.parameters(shapes), moved, strict=True):
        assert ((end - start).norm() / start.norm()).item() == pytest.approx(0.01, rel=1e-12)


def test_zero_weights_leave_zero_and_zero_gradients_decay() -> None:
    """Both move at the plain rate: w = 0 by -gamma g, and g = 0 by -gamma beta w."""
    start, still = weight([[0, 0]], [[1, 2]]), weight([[3, 4]], [[0, 0]])
    LARS([start, still], lr=0.1, weight_decay=0.5).step()
    expected = torch.tensor([[-0.1, -0.2], [2.85, 3.8]], dtype=torch.float64)
    assert_close([torch.cat([start.detach(), still.detach()])], [expected])


def test_each_group_has_its_settings() -> None:
    """Keys of a group go before the constructor's; a group without parameters, and one added later, too."""
    first, second, third = (problems.parameters(((3, 2),), seed) for seed in range(3))
    ours = LARS(
        [
            {"params": first, "lr": 0.3},
            {"params": []},
            {"params": second, "adapt": None, "weight_decay": 0.1},
        ],
        lr=0.1,
    )
    ours.add_param_group({"params": third, "trust_coefficient": 0.5, "momentum": 0.0})
    expected = [problems.parameters(((3, 2),), seed) for seed in range(3)]
    alone = [
        LARS(expected[0], 0.3),
        LARS(expected[1], 0.1, weight_decay=0.1, adapt=None),
        LARS(expected[2], 0.1, 0.0, trust_coefficient=0.5),
    ]
    for step in range(3):
        for params in (first, second, third, *expected):
            problems.set_gradients(params, step)
        for optimiser in (ours, *alone):
            optimiser.step()
    assert_same([*first, *second, *third], [p for params in expected for p in params])


def test_parameters_without_a_gradient_stay() -> None:
    """Neither moved nor given a buffer; the others step."""
    resting, moving = problems.parameters(((3, 2), (3, 2)))
    before = resting.detach().clone()
    problems.set_gradients([moving], 0)
    optimiser = LARS([resting, moving], 0.1, weight_decay=0.1)
    optimiser.step()
    assert torch.equal(resting, before)
    assert resting not in optimiser.state
    assert moving in optimiser.state


def test_a_closure_is_called_once_with_gradients_on() -> None:
    """Its loss is returned, and the step uses its gradients."""
    w, calls = weight([[3, 4]], [[9, 9]]), []
    optimiser = LARS([w], lr=0.5, weight_decay=0.1, trust_coefficient=0.02)

    def closure() -> float:
        calls.append(torch.is_grad_enabled())
        optimiser.zero_grad()
        loss = 2 * w[0, 1]
        loss.backward()
        return loss.item()

    assert optimiser.step(closure) == 8
    assert calls == [True]
    assert_close([w.detach()], [torch.tensor([[2.994, 3.952]], dtype=torch.float64)])


@pytest.mark.parametrize("adapt", ["weights", "all", None, lambda p: p.ndim == 4])
def test_a_run_taken_up_elsewhere_is_the_same_run(adapt: object) -> None:
    """To the bit, from a file that loads without running code, also where a function chose the layers."""
    whole, taken_up = problems.resumed(
        lambda model: LARS(model.parameters(), 0.5, weight_decay=1e-3, adapt=adapt),  # type: ignore[arg-type]
        problems.through_file,
    )
    assert_same(taken_up, whole)


def test_another_optimisers_state_is_refused() -> None:
    """SGD's buffer has no rate in it: taken over it would step too far by 1 / lr."""
    params = problems.parameters()
    with pytest.raises(
        BnrecalError, match=r"^LARS: the state dict has no trust_coefficient, adapt: it is ano"
    ):
        LARS(params, 0.1).load_state_dict(SGD(params, 0.1, 0.9).state_dict())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_half_precision_steps_do_not_overflow(dtype: torch.dtype, momentum: float) -> None:
    """Norms of 6e5 and factors of 1e5 and more, which float16 cannot hold: still the step of float64."""
    start = torch.full((10, 10), 6e4, dtype=dtype)
    gradients = [torch.full((10, 10), value, dtype=dtype) for value in (6e4, 1e-3)]
    w, wide = nn.Parameter(start.clone()), nn.Parameter(start.double())
    a, b = (LARS([p], 1.0, momentum, 1e-2, trust_coefficient=0.1) for p in (w, wide))
    for gradient in gradients:
        w.grad, wide.grad = gradient, gradient.double()
        a.step()
        b.step()
    torch.testing.assert_close(w.double(), wide, rtol=1e-2, atol=0)


def test_sparse_gradients_change_nothing() -> None:
    """The step is refused before any parameter has moved."""
    dense, embedding = problems.parameters(((3, 2),))[0], nn.Embedding(5, 2, sparse=True)
    problems.set_gradients([dense], 0)
    embedding(torch.tensor([1])).sum().backward()
    before = dense.detach().clone()
    with pytest.raises(BnrecalError, match="sparse gradient"):
        LARS([dense, embedding.weight], 0.1).step()
    assert torch.equal(dense, before)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lr": -1}, "LARS: group 0: lr=-1; it must be a number at least 0"),
        ({"momentum": 1}, "LARS: group 0: momentum=1; it must be a number at least 0 and below 1"),
        ({"nesterov": True, "momentum": 0}, "LARS: group 0: nesterov=True needs a momentum above 0"),
        ({"adapt": [True]}, "LARS: group 0: adapt has 1 truth values for 4 parameters"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(BnrecalError) as refused:
        LARS(problems.parameters(), **{"lr": 0.1, **settings})  # type: ignore[arg-type]
    assert str(refused.value) == words


def test_a_refused_group_is_not_added() -> None:
    optimiser = LARS(problems.parameters(), 0.1)
    with pytest.raises(BnrecalError, match=r"^LARS: group 1: unknown adapt 'none'"):
        optimiser.add_param_group({"params": problems.parameters(seed=1), "adapt": "none"})
    assert len(optimiser.param_groups) == 1


def test_it_says_what_it_leaves_out() -> None:
    """In its printed form and in its docstring."""
    shown = repr(LARS(problems.parameters(), 0.1))
    assert shown == (
        "LARS (\n  group 0: lr 0.1, momentum 0.9, weight_decay 0.0, trust_coefficient 0.001, nesterov False; "
        "layer-wise rate for 2 of 4 parameters (those of more than one dimension)\n)"
    )
    assert "Parameters of one dimension (biases, normalisation) have no layer-wise rate by default" in str(
        LARS.__doc__
    )


@pytest.mark.parametrize("adapt", ["weights", "all"])
def test_a_step_never_reads_a_value_back(adapt: str) -> None:
    """On torch's meta device, where there are no values to wait for, steps run."""
    params = [nn.Parameter(torch.empty(shape, device="meta")) for shape in ((4, 3, 3, 3), (4,), (5, 4))]
    optimiser = LARS(params, 0.1, weight_decay=0.1, adapt=adapt, nesterov=True)  # type: ignore[arg-type]
    for _ in range(2):
        for p in params:
            p.grad = torch.empty_like(p)
        optimiser.step()


def test_memory_format_does_not_matter() -> None:
    """A channels-last convolution moves as a contiguous one and stays channels-last, with its buffer."""
    plain = problems.parameters(((4, 3, 3, 3),))
    last = [nn.Parameter(plain[0].detach().clone(memory_format=torch.channels_last))]
    optimiser = LARS(last, 0.1)
    for params, opt in ((plain, LARS(plain, 0.1)), (last, optimiser)):
        problems.set_gradients(params, 0)
        opt.step()
    assert_close([last[0].detach()], [plain[0].detach()])
    assert last[0].is_contiguous(memory_format=torch.channels_last)
    assert optimiser.state[last[0]]["momentum_buffer"].is_contiguous(memory_format=torch.channels_last)


def test_a_schedule_is_followed() -> None:
    """A scheduler's rates are the steps' rates."""
    w = weight([[3, 4]], [[0, 2]])
    optimiser = LARS([w], lr=0.5, momentum=0.0, trust_coefficient=0.02)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, start_factor=0.5, total_iters=2)
    moved = []
    for _ in range(3):
        before = w.detach().clone()
        optimiser.step()
        schedule.step()
        moved.append(((w.detach() - before).norm() / before.norm()).item())
    assert moved == pytest.approx([0.5 * 0.02 * factor for factor in (0.5, 0.75, 1.0)])


def test_a_copy_steps_alone() -> None:
    """A deep copy has parameters of its own and the same steps."""
    params = problems.parameters()
    optimiser = LARS(params, 0.1)
    other = copy.deepcopy(optimiser)
    before = [p.detach().clone() for p in params]
    copied = other.param_groups[0]["params"]
    problems.set_gradients(copied, 0)
    other.step()
    assert_same(params, before)
    problems.set_gradients(params, 0)
    optimiser.step()
    assert_same(copied, params)
