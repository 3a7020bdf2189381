"""LARC by its formula, in its invariants, and as an optimiser that leaves nothing behind."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import (
    ASGD,
    LBFGS,
    SGD,
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Muon,
    NAdam,
    Optimizer,
    RAdam,
    RMSprop,
    Rprop,
    lr_scheduler,
)

from bnrecal.errors import BnrecalError
from bnrecal.optimisers import LARC
from tests.optimisers import problems
from tests.optimisers.problems import after_steps, assert_close, assert_same

HUGE = 1e30
MATRICES = ((4, 3), (5, 4))
Make = Callable[[list[nn.Parameter]], Optimizer]

WRAPPED: dict[str, Make] = {
    "SGD": lambda params: SGD(params, 0.1, 0.9, weight_decay=0.1),
    "SGD, Nesterov, as lists": lambda p: SGD(p, 0.1, 0.9, weight_decay=0.1, nesterov=True, foreach=True),
    "SGD, maximise": lambda params: SGD(params, 0.1, 0.9, weight_decay=0.1, maximize=True),
    "SGD, dampening": lambda params: SGD(params, 0.1, 0.9, 0.5, weight_decay=0.1),
    "SGD, no decay": lambda params: SGD(params, 0.1),
    "SGD, rate a tensor": lambda params: SGD(params, torch.tensor(0.1), weight_decay=0.1),
    "Adam": lambda params: Adam(params, weight_decay=0.1),
    "Adam, decoupled": lambda params: Adam(params, weight_decay=0.1, decoupled_weight_decay=True),
    "AdamW": lambda params: AdamW(params, weight_decay=0.1),
    "AdamW, fused": lambda params: AdamW(params, weight_decay=0.1, fused=True),
    "NAdam": lambda params: NAdam(params, weight_decay=0.1),
    "RAdam": lambda params: RAdam(params, weight_decay=0.1),
    "Adamax": lambda params: Adamax(params, weight_decay=0.1),
    "Adagrad": lambda params: Adagrad(params, weight_decay=0.1),
    "Adadelta": lambda params: Adadelta(params, weight_decay=0.1),
    "Adafactor": lambda params: Adafactor(params, weight_decay=0.1),
    "ASGD": lambda params: ASGD(params, weight_decay=0.1),
    "RMSprop": lambda params: RMSprop(params, weight_decay=0.1),
    "Rprop": lambda params: Rprop(params),
    "Muon": lambda params: Muon(params, weight_decay=0.1),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", WRAPPED)
def test_a_huge_coefficient_is_the_wrapped_optimiser(name: str, dtype: torch.dtype) -> None:
    """To the bit: every factor is clipped to 1, and the decay is added as the optimiser would add it, or is
    left to it where it is decoupled."""
    found = after_steps(lambda params: LARC(WRAPPED[name](params), HUGE), 5, MATRICES, dtype)
    assert_same(found, after_steps(WRAPPED[name], 5, MATRICES, dtype))


def by_the_formula(
    params: list[Tensor], lr: float, decay: float, eta: float, clip: bool, eps: float, n_steps: int
) -> list[Tensor]:
    """apex' LARC around SGD with momentum .9, one parameter at a time, in plain numbers."""
    w = [p.detach().clone() for p in params]
    v = [torch.zeros_like(p) for p in params]
    for step in range(n_steps):
        problems.set_gradients(params, step)
        for i, p in enumerate(params):
            assert p.grad is not None
            rate = eta * w[i].norm() / (p.grad.norm() + decay * w[i].norm() + eps)
            factor = min(rate.item() / lr, 1) if clip else rate.item()
            v[i] = 0.9 * v[i] + factor * (p.grad + decay * w[i])
            w[i] = w[i] - lr * v[i]
    return w


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("lr", [1e-3, 0.02, 1.0])
def test_apex(clip: bool, decay: float, lr: float) -> None:
    """With clipping (below, around and above the layer-wise rates) and without: the formula's weights."""
    found = after_steps(lambda p: LARC(SGD(p, lr, 0.9, weight_decay=decay), clip=clip, eps=0.5), 6)
    assert_close(found, by_the_formula(problems.parameters(), lr, decay, 0.02, clip, 0.5, 6))


@pytest.mark.parametrize("factor", [1e-3, 7.0, 1e3])
def test_scaling_forgets_the_gradients_size(factor: float) -> None:
    """Without clip, decay and eps, g -> c g leaves every step as it was."""

    def make(params: list[nn.Parameter]) -> Optimizer:
        return LARC(SGD(params, 0.5, 0.9), clip=False, eps=0)

    assert_close(after_steps(make, 5, scale=factor), after_steps(make, 5), rtol=1e-10)


def test_one_scaled_step_moves_by_rate_times_trust() -> None:
    """|w_1 - w_0| / |w_0| = gamma eta without decay and eps."""
    moved = after_steps(lambda params: LARC(SGD(params, 0.5), clip=False, eps=0), 1)
    for start, end in zip(problems.parameters(), moved, strict=True):
        assert ((end - start).norm() / start.norm()).item() == pytest.approx(0.01, rel=1e-12)


def test_clipped_steps_do_not_depend_on_a_large_rate() -> None:
    """Where lambda < gamma a layer moves at lambda: rates 10 and 1,000 give the same step."""
    found = after_steps(lambda params: LARC(SGD(params, 10.0, weight_decay=0.1)), 3)
    assert_close(found, after_steps(lambda params: LARC(SGD(params, 1000.0, weight_decay=0.1)), 3))
    below = after_steps(lambda params: LARC(SGD(params, 1e-4, weight_decay=0.1)), 3)
    assert not torch.allclose(found[0], below[0])


@pytest.mark.parametrize("clip", [False, True])
def test_zero_norms_keep_their_decay(clip: bool) -> None:
    """A parameter without gradient signal decays at the plain rate, and one at zero moves by it; apex leaves
    the first as it is."""
    still, start = (nn.Parameter(torch.tensor(v)) for v in ([[3.0, 4.0]], [[0.0, 0.0]]))
    still.grad, start.grad = torch.zeros(1, 2), torch.tensor([[1.0, 2.0]])
    LARC(SGD([still, start], 2.0, weight_decay=0.1), clip=clip).step()
    torch.testing.assert_close(still.detach(), torch.tensor([[2.4, 3.2]]))
    torch.testing.assert_close(start.detach(), torch.tensor([[-2.0, -4.0]]))


@pytest.mark.parametrize("lr", [0.1, 10.0])
def test_decoupled_decay_stays_the_optimisers(lr: float) -> None:
    """AdamW without any gradient signal shrinks a weight by lr * decay; LARC does not touch that, whatever
    its coefficient. A group can say the same of a foreign optimiser."""

    def make(params: list[nn.Parameter]) -> Optimizer:
        return AdamW(params, lr, weight_decay=0.01)

    found = after_steps(lambda params: LARC(make(params), 1e-3), 1, scale=0.0)
    assert_same(found, after_steps(make, 1, scale=0.0))
    param = nn.Parameter(torch.ones(1, 2))
    param.grad = torch.ones(1, 2)
    said = LARC(SGD([{"params": [param], "decoupled_weight_decay": True}], lr, weight_decay=0.5), HUGE)
    said.step()
    torch.testing.assert_close(param.detach(), torch.full((1, 2), 1 - lr * 1.5))


def test_which_layers_are_adapted_can_be_chosen() -> None:
    """All by default, as in apex; `adapt` and a group's keys choose otherwise."""
    plain = after_steps(lambda params: SGD(params, 0.1, weight_decay=0.1), 1)
    everything = after_steps(lambda params: LARC(SGD(params, 0.1, weight_decay=0.1)), 1)
    weights = after_steps(lambda params: LARC(SGD(params, 0.1, weight_decay=0.1), adapt="weights"), 1)
    for p, a, w in zip(plain, everything, weights, strict=True):
        assert not torch.allclose(p, a)
        assert torch.equal(w, p if p.ndim == 1 else a)

    def groups(params: list[nn.Parameter]) -> Optimizer:
        one, *others = params
        keys = {"params": [one], "adapt": None}
        return LARC(SGD([keys, {"params": others, "trust_coefficient": HUGE}], 0.1, weight_decay=0.1))

    assert_same(after_steps(groups, 1), plain)


class Failing(SGD):
    """SGD that fails half-way through its second step."""

    def step(self, closure: Any = None) -> Any:
        if self.state:
            self.param_groups[0]["params"][0].data.mul_(2)
            raise RuntimeError("the device is gone")
        return super().step(closure)


def left_behind(optimiser: LARC) -> tuple[list[Tensor | None], list[object]]:
    params = [p for group in optimiser.param_groups for p in group["params"]]
    return [p.grad for p in params], [group["weight_decay"] for group in optimiser.param_groups]


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_gradients_and_decay_are_left_as_they_were(clip: bool, decay: float) -> None:
    """After a step and after one that failed: the very tensors that backward left, with their values."""
    params = problems.parameters()
    groups = [{"params": params[:2]}, {"params": params[2:], "weight_decay": 0.3}]
    optimiser = LARC(Failing(groups, 0.1, 0.9, weight_decay=decay), clip=clip)
    for fails in (False, True):
        problems.set_gradients(params, 0)
        before, values = [p.grad for p in params], [p.grad.clone() for p in params if p.grad is not None]
        if fails:
            with pytest.raises(RuntimeError, match="the device is gone"):
                optimiser.step()
        else:
            optimiser.step()
        grads, decays = left_behind(optimiser)
        assert all(a is b for a, b in zip(grads, before, strict=True))
        assert_same([g for g in grads if g is not None], values)
        assert decays == [decay, 0.3]


def test_a_failing_closure_leaves_the_decay() -> None:
    """Also in the second call of a step, when gradients are adapted already: they are the closure's again."""
    w = nn.Parameter(torch.tensor([[3.0, 4.0]]))
    optimiser = LARC(LBFGS([w], 0.1, max_iter=3))
    optimiser.param_groups[0]["weight_decay"] = 0.25
    calls = []

    def closure() -> float:
        calls.append(1)
        if len(calls) == 2:
            assert w.grad is not None
            torch.testing.assert_close(w.grad, torch.tensor([[6.0, 8.0]]))
            raise RuntimeError("no more images")
        optimiser.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss  # type: ignore[return-value]

    with pytest.raises(RuntimeError, match="no more images"):
        optimiser.step(closure)
    torch.testing.assert_close(w.grad, torch.tensor([[6.0, 8.0]]))
    assert optimiser.param_groups[0]["weight_decay"] == 0.25


@pytest.mark.parametrize("set_to_none", [False, True])
def test_every_call_of_a_closure_is_adapted(set_to_none: bool) -> None:
    """LBFGS calls it many times in a step: a huge coefficient leaves the minimisation as it is, a small one
    does not, and the gradients left are the last call's own."""

    def minimise(wrap: Callable[[Optimizer], Optimizer]) -> tuple[Tensor, Tensor]:
        (w,) = problems.parameters(((4, 3),))
        optimiser = wrap(LBFGS([w], 0.1, max_iter=4))
        target = torch.arange(12, dtype=torch.float64).reshape(4, 3)
        last: list[Tensor] = []

        def closure() -> float:
            optimiser.zero_grad(set_to_none)
            loss = ((w - target) ** 2).sum() + (w**4).sum()
            loss.backward()
            assert w.grad is not None
            last[:] = [w.grad.clone()]
            return loss  # type: ignore[return-value]

        for _ in range(2):
            optimiser.step(closure)
        assert w.grad is not None
        assert torch.equal(w.grad, last[0])
        return w.detach(), w.grad

    alone = minimise(lambda optimiser: optimiser)
    assert_same(minimise(lambda optimiser: LARC(optimiser, HUGE)), alone)
    assert not torch.allclose(minimise(lambda optimiser: LARC(optimiser, 1e-3))[0], alone[0])


def test_parameters_without_a_gradient_stay() -> None:
    """Neither moved nor given a gradient; a group without parameters does no harm."""
    resting, moving = problems.parameters(((3, 2), (3, 2)))
    before = resting.detach().clone()
    problems.set_gradients([moving], 0)
    LARC(SGD([{"params": [resting, moving]}, {"params": []}], 0.1, weight_decay=0.1)).step()
    assert torch.equal(resting, before)
    assert resting.grad is None


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_a_run_taken_up_elsewhere_is_the_same_run(name: str) -> None:
    """To the bit, from a file that loads without running code."""
    whole, taken_up = problems.resumed(
        lambda model: LARC(WRAPPED[name](list(model.parameters())), 5e-3), problems.through_file
    )
    assert_same(taken_up, whole)


def test_the_state_dict_holds_the_settings() -> None:
    """They come back with it; a plain checkpoint of the wrapped optimiser loads too and leaves them."""
    params = problems.parameters()
    saved = LARC(SGD(params, 0.3, 0.9), 0.5, False, 0.1, "weights").state_dict()
    loaded = LARC(SGD(params, 0.1))
    loaded.load_state_dict(saved)
    assert (loaded.trust_coefficient, loaded.clip, loaded.eps, loaded.adapt) == (0.5, False, 0.1, "weights")
    assert (loaded.param_groups[0]["lr"], loaded.param_groups[0]["momentum"]) == (0.3, 0.9)
    loaded.load_state_dict(SGD(params, 0.7).state_dict())
    assert (loaded.trust_coefficient, loaded.param_groups[0]["lr"]) == (0.5, 0.7)


SCHEDULES: dict[str, Callable[[Optimizer], Any]] = {
    "step": lambda optimiser: lr_scheduler.StepLR(optimiser, 2),
    "cosine": lambda optimiser: lr_scheduler.CosineAnnealingLR(optimiser, 6),
    "one cycle": lambda optimiser: lr_scheduler.OneCycleLR(optimiser, 0.5, total_steps=8),
    "cyclic": lambda optimiser: lr_scheduler.CyclicLR(optimiser, 0.1, 0.5),
    "plateau": lambda optimiser: lr_scheduler.ReduceLROnPlateau(optimiser, patience=1),
    "warm-up": lambda optimiser: lr_scheduler.SequentialLR(
        optimiser,
        [lr_scheduler.LinearLR(optimiser, 0.01, total_iters=3), lr_scheduler.ExponentialLR(optimiser, 0.5)],
        [3],
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedulers_take_it(name: str) -> None:
    """Each of torch's kinds drives it as it drives the wrapped optimiser, momentum of a cycle included."""

    def rates(wrap: Callable[[Optimizer], Optimizer]) -> list[tuple[float, float]]:
        params = problems.parameters()
        optimiser = wrap(SGD(params, 0.1, 0.9))
        schedule, seen = SCHEDULES[name](optimiser), []
        for step in range(6):
            problems.set_gradients(params, step)
            optimiser.step()
            schedule.step(*([1.0] if name == "plateau" else []))
            seen.append((optimiser.param_groups[0]["lr"], optimiser.param_groups[0]["momentum"]))
        return seen

    assert rates(LARC) == rates(lambda optimiser: optimiser)


@pytest.mark.parametrize("fused", [False, True])
def test_a_gradient_scaler_takes_it(fused: bool) -> None:
    """Gradients are unscaled before they are adapted, also around a fused optimiser that would do both; a
    step with an infinite gradient is left out."""

    def steps(scaled: bool) -> list[Tensor]:
        params = problems.parameters(((4, 3), (4,)), dtype=torch.float32)
        optimiser = LARC(AdamW(params, 0.1, fused=fused))
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0, enabled=scaled)
        for step in range(5):
            optimiser.zero_grad()
            inputs = torch.randn(6, 3, generator=torch.Generator().manual_seed(step))
            loss = nn.functional.linear(inputs, *params).square().mean()
            if step == 2:
                if not scaled:
                    continue
                loss = loss * float("inf")
            scaler.scale(loss).backward()
            scaler.step(optimiser)
            scaler.update()
        return [p.detach() for p in params]

    assert_same(steps(True), steps(False))


def test_groups_are_the_wrapped_optimisers() -> None:
    """A group added here steps there; zeroed gradients are gone; a bad group is not added."""
    first, second = problems.parameters(((3, 2), (3, 2)))
    inner = SGD([first], 0.1)
    optimiser = LARC(inner)
    optimiser.add_param_group({"params": [second], "trust_coefficient": HUGE})
    assert optimiser.param_groups is inner.param_groups
    assert inner.param_groups[1]["params"] == [second]
    problems.set_gradients([first, second], 0)
    optimiser.zero_grad()
    assert first.grad is None
    with pytest.raises(
        BnrecalError, match=r"^LARC: group 2: trust_coefficient=-1; it must be a number above 0"
    ):
        optimiser.add_param_group({"params": problems.parameters(((2, 2),)), "trust_coefficient": -1})
    assert len(inner.param_groups) == 2


def test_hooks_run() -> None:
    """Around the step once, with LARC, and around the state dict where it is made."""
    params = problems.parameters()
    optimiser = LARC(SGD(params, 0.1))
    seen: list[str] = []
    optimiser.register_step_pre_hook(lambda opt, args, kwargs: seen.append(f"before {type(opt).__name__}"))
    optimiser.register_step_post_hook(lambda opt, args, kwargs: seen.append(f"after {type(opt).__name__}"))
    optimiser.register_state_dict_pre_hook(lambda opt: seen.append("saves"))
    optimiser.register_state_dict_post_hook(lambda opt, state: seen.append("saved"))
    optimiser.register_load_state_dict_pre_hook(lambda opt, state: seen.append("loads"))
    optimiser.register_load_state_dict_post_hook(lambda opt: seen.append("loaded"))
    problems.set_gradients(params, 0)
    optimiser.step()
    optimiser.load_state_dict(optimiser.state_dict())
    assert seen == ["before LARC", "after LARC", "saves", "saved", "loads", "loaded"]


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda optimiser: pickle.loads(pickle.dumps(optimiser))]
)
def test_a_copy_steps_alone(duplicate: Callable[[LARC], LARC]) -> None:
    """Copied or pickled it has parameters, buffers and settings of its own, and the same steps."""
    params = problems.parameters()
    optimiser = LARC(SGD(params, 0.1, 0.9, weight_decay=0.1), 0.01, adapt="weights")
    problems.set_gradients(params, 0)
    optimiser.step()
    other = duplicate(optimiser)
    copied, before = other.param_groups[0]["params"], [p.detach().clone() for p in params]
    problems.set_gradients(copied, 1)
    other.step()
    assert_same(params, before)
    problems.set_gradients(params, 1)
    optimiser.step()
    assert_same(copied, params)


def test_sparse_gradients_are_refused() -> None:
    """Nothing has moved, gradients and decay are as they were."""
    dense, embedding = problems.parameters(((3, 2),))[0], nn.Embedding(5, 2, sparse=True)
    problems.set_gradients([dense], 0)
    embedding(torch.tensor([1])).sum().backward()
    before, grad = dense.detach().clone(), dense.grad
    optimiser = LARC(SGD([dense, embedding.weight], 0.1, weight_decay=0.1))
    with pytest.raises(
        BnrecalError, match=r"^LARC: parameter 1 of group 0 has a sparse gradient; only dense"
    ):
        optimiser.step()
    assert torch.equal(dense, before)
    assert dense.grad is grad
    assert optimiser.param_groups[0]["weight_decay"] == 0.1


class Rateless(Optimizer):
    """An optimiser that has no rate."""

    def __init__(self, params: list[nn.Parameter]) -> None:
        super().__init__(params, {})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: LARC(LARC(SGD(p))), "LARC: optimizer is a LARC; it must be a torch.optim.Optimizer other"),
        (lambda p: LARC(p), "LARC: optimizer is a list; it must be a torch.optim.Optimizer other than LARC"),
        (lambda p: LARC(SGD(p), 0), "LARC: trust_coefficient=0; it must be a number above 0"),
        (lambda p: LARC(SGD(p), eps=-1), "LARC: eps=-1; it must be a number at least 0"),
        (
            lambda p: LARC(SGD(p), adapt="none"),
            "LARC: group 0: unknown adapt 'none'; valid: 'weights', 'all'",
        ),
        (lambda p: LARC(SGD(p, differentiable=True)), "LARC: group 0: differentiable=True; steps of LARC"),
        (lambda p: LARC(Rateless(p)), "LARC: group 0 of Rateless has no lr to adapt"),
    ],
)
def test_what_it_cannot_wrap_is_refused(make: Callable[[list[nn.Parameter]], LARC], words: str) -> None:
    """In one line."""
    with pytest.raises(BnrecalError) as refused:
        make(problems.parameters())
    assert str(refused.value).startswith(words)


def test_a_step_never_reads_a_value_back() -> None:
    """On torch's meta device, where there are no values to wait for, steps run."""
    params = [nn.Parameter(torch.empty(shape, device="meta")) for shape in ((4, 3, 3, 3), (4,), (5, 4))]
    optimiser = LARC(SGD(params, 0.1, 0.9, weight_decay=0.1), adapt="weights")
    for _ in range(2):
        for p in params:
            p.grad = torch.empty_like(p)
        optimiser.step()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("clip", [False, True])
def test_half_precision_does_not_overflow(dtype: torch.dtype, clip: bool) -> None:
    """Norms of 6e5 and factors of 6e6, which float16 cannot hold: still the step of float64."""
    start, gradient = torch.full((10, 10), 6e4, dtype=dtype), torch.full((10, 10), 1e-3, dtype=dtype)
    w, wide = nn.Parameter(start.clone()), nn.Parameter(start.double())
    w.grad, wide.grad = gradient, gradient.double()
    for p in (w, wide):
        LARC(SGD([p], 1.0), 0.1, clip).step()
    torch.testing.assert_close(w.double(), wide, rtol=1e-2, atol=0)


def test_it_says_what_it_adapts() -> None:
    """Its settings, how many layers are adapted, and the wrapped optimiser."""
    shown = repr(LARC(SGD(problems.parameters(), 0.1), adapt="weights"))
    assert shown.startswith(
        "LARC (clip True, eps 1e-08\n  group 0: trust_coefficient 0.02; layer-wise rate for 2 of 4 "
        "parameters (those of more than one dimension)\n) around SGD ("
    )
