"""LARC: layer-wise rates for the gradients of any optimiser, optionally never above its own rate."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Adafactor, Muon, Optimizer
from torch.optim.optimizer import StateDict
from torch.utils.hooks import RemovableHandle

from bnrecal.errors import BnrecalError
from bnrecal.optimisers.adapted import Adapt, adapted, refuse_sparse, said, together
from bnrecal.optimisers.checks import check_numbers
from bnrecal.optimisers.trust import layer_rates
from bnrecal.optimisers.updates import scaled_sum_into, scaled_sums

SAID_DECOUPLED = ("decoupled_weight_decay", "decoupled_decay", "decoupled")  # torch's key, then timm's two
ALWAYS_DECOUPLED = (Adafactor, Muon)


class LARC(Optimizer):
    """Layer-wise adaptive rate control around `optimizer`, after NVIDIA apex' `apex.parallel.LARC`.

    For a parameter w with gradient g, and gamma (`lr`) and beta (`weight_decay`) of its group:

        lambda = eta |w| / (|g| + beta |w| + eps)
        s      = min(lambda / gamma, 1) if clip else lambda       1 where |w| or |g| is 0, or not adapted
        the optimiser's step with gradient s (g + beta w) and without weight decay of its own

    With `clip` a layer moves at min(lambda, gamma): a large `trust_coefficient` gives the wrapped optimiser
    itself, a small one makes the step independent of gamma. Without it the layer moves at gamma lambda.

    All parameters are adapted by default, as in apex; `adapt="weights"` leaves out those of one dimension
    (biases, normalisation), and the other values of `Adapt` choose otherwise. A parameter group of the
    wrapped optimiser may have `trust_coefficient` and `adapt` as keys, which go first.

    Weight decay is scaled with the gradient where the optimiser adds it to the gradient. Where it is
    decoupled (AdamW, Adafactor, Muon, or a group that says `decoupled_weight_decay=True`), it stays the
    optimiser's own and beta is 0 above; a foreign optimiser with decoupled decay needs that key.

    Parameter groups, state and defaults are the wrapped optimiser's: schedulers, GradScaler and closures
    (called several times by LBFGS) work as with any other. Gradients and weight decay are as before after
    each step, also after one that failed; on the processor the memory of the scaled gradients is kept between
    steps. The state dict is the wrapped optimiser's with one more entry,
    `larc`; one without it loads too, and then the constructor's values hold. A function given as `adapt` is
    not saved.

    BnrecalError: a number out of its range, an unknown `adapt`, a sparse gradient, a wrapped LARC, groups
    without `lr`, `differentiable=True`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        trust_coefficient: float = 0.02,
        clip: bool = True,
        eps: float = 1e-8,
        adapt: Adapt = "all",
    ) -> None:
        check_numbers({"trust_coefficient": trust_coefficient, "eps": eps}, "LARC")
        if not isinstance(optimizer, Optimizer) or isinstance(optimizer, LARC):
            raise BnrecalError(
                f"LARC: optimizer is a {type(optimizer).__name__}; it must be a torch.optim.Optimizer "
                "other than LARC"
            )
        self.optimizer = optimizer
        self.trust_coefficient, self.clip, self.eps = trust_coefficient, bool(clip), eps
        self.adapt = adapt
        for k, group in enumerate(self.param_groups):
            self._check(group, k)
        self.__setstate__({})  # the base class's hooks; parameters stay the wrapped optimiser's

    def _check(self, group: dict[str, Any], k: int) -> None:
        place = f"LARC: group {k}"
        if "lr" not in group:
            raise BnrecalError(f"{place} of {type(self.optimizer).__name__} has no lr to adapt")
        if group.get("differentiable"):
            raise BnrecalError(f"{place}: differentiable=True; steps of LARC cannot be differentiated")
        if "trust_coefficient" in group:
            check_numbers({"trust_coefficient": group["trust_coefficient"]}, place)
        adapted(group.get("adapt", self.adapt), group["params"], place)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step of the wrapped optimiser on adapted gradients; returns what it returns."""
        with self._decay_taken_over() as decays:
            try:
                if closure is None:
                    self._replace_gradients(decays)
                    return self.optimizer.step()

                def loss_with_adapted_gradients() -> float:
                    self._put_gradients_back()
                    loss = closure()
                    self._replace_gradients(decays)
                    return loss

                return self.optimizer.step(loss_with_adapted_gradients)
            finally:
                self._put_gradients_back()

    @contextmanager
    def _decay_taken_over(self) -> Iterator[list[float]]:
        """Yields the weight decay to scale with each group's gradients; meanwhile the groups have none."""
        decays = [self._decay(group) for group in self.param_groups]
        taken = [
            (group, group["weight_decay"]) for group, d in zip(self.param_groups, decays, strict=True) if d
        ]
        try:
            for group, _ in taken:
                group["weight_decay"] = 0.0
            yield decays
        finally:
            for group, decay in taken:
                group["weight_decay"] = decay

    def _decay(self, group: dict[str, Any]) -> float:
        if isinstance(self.optimizer, ALWAYS_DECOUPLED) or any(group.get(key) for key in SAID_DECOUPLED):
            return 0.0
        return float(group.get("weight_decay", 0.0))

    @torch.no_grad()
    def _replace_gradients(self, decays: list[float]) -> None:
        refuse_sparse(self.param_groups, "LARC")
        for k, (group, decay) in enumerate(zip(self.param_groups, decays, strict=True)):
            flags = adapted(group.get("adapt", self.adapt), group["params"], f"LARC: group {k}")
            for adapts, params in together(group["params"], flags):
                grads = [p.grad for p in params if p.grad is not None]
                scaled = self._scaled(group, params, grads, decay, adapts)
                for p, g, s in zip(params, grads, scaled, strict=True):
                    self._replaced.append((p, g))
                    p.grad = s

    def _scaled(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], decay: float, adapts: bool
    ) -> list[Tensor]:
        """s (g + beta w) of parameters of one device and dtype; the gradients themselves stay as they are."""
        scales = None
        if adapts:
            rates = layer_rates(
                params,
                grads,
                trust_coefficient=group.get("trust_coefficient", self.trust_coefficient),
                weight_decay=decay,
                eps=self.eps,
                clip_at=group["lr"] if self.clip else None,
            )
            scales = list(rates.unbind())
        if group.get("maximize"):  # the optimiser will turn the gradient round
            decay = -decay
        if params[0].device.type != "cpu":
            return scaled_sums(grads, params, decay, scales)
        return [
            scaled_sum_into(self._room(p, g), g, p, decay, scales[i] if scales else None)
            for i, (p, g) in enumerate(zip(params, grads, strict=True))
        ]

    def _room(self, param: Tensor, grad: Tensor) -> Tensor:
        """Memory for a parameter's scaled gradient, kept from step to step."""
        room = self._rooms.get(param)
        if room is None or (room.dtype, room.shape, room.stride()) != (grad.dtype, grad.shape, grad.stride()):
            room = self._rooms[param] = torch.empty_like(grad)
        return room

    def _put_gradients_back(self) -> None:
        for p, g in self._replaced:
            p.grad = g
        self._replaced.clear()

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.optimizer.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self.optimizer.param_groups = groups

    @property
    def state(self) -> Any:
        return self.optimizer.state

    @state.setter
    def state(self, state: Any) -> None:
        self.optimizer.state = state

    @property
    def defaults(self) -> dict[str, Any]:
        return self.optimizer.defaults

    @defaults.setter
    def defaults(self, defaults: dict[str, Any]) -> None:
        self.optimizer.defaults = defaults

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        self.optimizer.add_param_group(param_group)
        try:
            self._check(self.param_groups[-1], len(self.param_groups) - 1)
        except BaseException:
            self.param_groups.pop()
            raise

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none)

    def state_dict(self) -> StateDict:
        own: dict[str, Any] = {
            "trust_coefficient": self.trust_coefficient,
            "clip": self.clip,
            "eps": self.eps,
        }
        if not callable(self.adapt):
            own["adapt"] = self.adapt
        return {**self.optimizer.state_dict(), "larc": own}

    def load_state_dict(self, state_dict: StateDict) -> None:
        wrapped = {key: value for key, value in state_dict.items() if key != "larc"}
        self.optimizer.load_state_dict(wrapped)
        own = state_dict.get("larc", {})
        self.trust_coefficient = own.get("trust_coefficient", self.trust_coefficient)
        self.clip, self.eps = own.get("clip", self.clip), own.get("eps", self.eps)
        self.adapt = own.get("adapt", self.adapt)

    # hooks around the state dict run where it is made; hooks around a step are this class's own
    def register_state_dict_pre_hook(self, hook: Any, prepend: bool = False) -> RemovableHandle:
        return self.optimizer.register_state_dict_pre_hook(hook, prepend)

    def register_state_dict_post_hook(self, hook: Any, prepend: bool = False) -> RemovableHandle:
        return self.optimizer.register_state_dict_post_hook(hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Any, prepend: bool = False) -> RemovableHandle:
        return self.optimizer.register_load_state_dict_pre_hook(hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Any, prepend: bool = False) -> RemovableHandle:
        return self.optimizer.register_load_state_dict_post_hook(hook, prepend)

    def __getstate__(self) -> dict[str, Any]:
        names = ("optimizer", "trust_coefficient", "clip", "eps", "adapt")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._replaced: list[tuple[Tensor, Tensor]] = []  # parameters with the gradients backward left
        self._rooms: dict[Tensor, Tensor] = {}

    def __repr__(self) -> str:
        lines = []
        for k, group in enumerate(self.param_groups):
            eta = group.get("trust_coefficient", self.trust_coefficient)
            words = said(group.get("adapt", self.adapt), group["params"])
            lines.append(f"  group {k}: trust_coefficient {eta}; {words}\n")
        return f"LARC (clip {self.clip}, eps {self.eps}\n{''.join(lines)}) around {self.optimizer!r}"
