"""LARS: stochastic gradient descent in which every layer moves in proportion to its own norm."""

from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT, StateDict

from bnrecal.errors import BnrecalError
from bnrecal.optimisers.adapted import Adapt, adapted, refuse_sparse, said, together
from bnrecal.optimisers.checks import check_numbers
from bnrecal.optimisers.trust import HALF, layer_rates
from bnrecal.optimisers.updates import Rates, add_updates


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling, as in the paper (You, Gitman and Ginsburg 2017, algorithm 1).

    For a parameter w with gradient g, momentum m, weight decay beta, rate gamma (`lr`) and trust
    coefficient eta:

        lambda = eta |w| / (|g| + beta |w|)       1 where |w| or |g| is 0, and where not adapted
        u      = gamma lambda (g + beta w)
        v      = m v + u                          from v = 0
        w      = w - v                            nesterov: w - (m v + u)

    The rate stands inside the momentum buffer, as in the paper: after a change of `lr` what was gathered
    before keeps the old rate. torch's SGD, and NVIDIA apex' and timm's LARS built on it, have it outside; at
    a constant rate both give the same weights.

    **Parameters of one dimension (biases, normalisation) have no layer-wise rate by default**: they move at
    `lr` itself. `adapt` changes that: `"all"`, `None` (none: SGD), a function that says it of a parameter,
    or one truth value a parameter. They keep their weight decay: a group with `weight_decay=0` takes it off.

    Every argument but `params` may be a key of a parameter group. `lr` is a number, not a tensor. Norms of
    float16 and bfloat16 parameters are taken in float32, and so is the update; the buffer has the
    parameter's dtype, in which a small update can vanish, so half precision is for the forward pass
    (autocast), not for the parameters. A step never waits for the device.

    BnrecalError: a number out of its range, an unknown `adapt`, a sparse gradient, nesterov without momentum,
    a state dict of another optimiser.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
        nesterov: bool = False,
        adapt: Adapt = "weights",
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "nesterov": nesterov,
            "adapt": adapt,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        place = f"LARS: group {len(self.param_groups)}"
        settings = {**self.defaults, **param_group}
        check_numbers(settings, place)
        if settings["nesterov"] and not settings["momentum"]:
            raise BnrecalError(f"{place}: nesterov=True needs a momentum above 0")
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            flags = adapted(group["adapt"], group["params"], place)
        except BaseException:
            self.param_groups.pop()
            raise
        if not (group["adapt"] is None or isinstance(group["adapt"], str)):
            group["adapt"] = flags  # a function cannot be saved with the state

    def load_state_dict(self, state_dict: StateDict) -> None:
        missing = [key for key in self.defaults if any(key not in g for g in state_dict["param_groups"])]
        if missing:
            raise BnrecalError(
                f"LARS: the state dict has no {', '.join(missing)}: it is another optimiser's, "
                "whose momentum means something else"
            )
        super().load_state_dict(state_dict)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient; `closure` recomputes the loss, which is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        refuse_sparse(self.param_groups, "LARS")
        for k, group in enumerate(self.param_groups):
            flags = adapted(group["adapt"], group["params"], f"LARS: group {k}")
            for adapts, params in together(group["params"], flags):
                self._update(group, params, adapts)
        return loss

    def _update(self, group: dict[str, Any], params: list[Tensor], adapts: bool) -> None:
        """One step of parameters of one device and dtype, all or none of them adapted."""
        grads = [p.grad for p in params if p.grad is not None]
        rates: Rates = group["lr"]
        if adapts:
            lambdas = layer_rates(
                params,
                grads,
                trust_coefficient=group["trust_coefficient"],
                weight_decay=group["weight_decay"],
            )
            rates = list((lambdas * group["lr"]).unbind())
        if params[0].dtype in HALF:
            grads = [g.float() for g in grads]
        if group["momentum"]:
            buffers = [self._buffer(p) for p in params]
            torch._foreach_mul_(buffers, group["momentum"])
            add_updates(buffers, params, grads, rates, group["weight_decay"], 1)
            if not group["nesterov"]:
                torch._foreach_sub_(params, buffers)
                return
        add_updates(params, params, grads, rates, group["weight_decay"], -1)
        if group["nesterov"]:
            torch._foreach_add_(params, buffers, alpha=-group["momentum"])

    def _buffer(self, param: Tensor) -> Tensor:
        state = self.state[param]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(param)
        buffer: Tensor = state["momentum_buffer"]
        return buffer

    def __repr__(self) -> str:
        lines = []
        for k, group in enumerate(self.param_groups):
            settings = ", ".join(f"{key} {group[key]}" for key in self.defaults if key != "adapt")
            lines.append(f"  group {k}: {settings}; {said(group['adapt'], group['params'])}\n")
        return f"LARS (\n{''.join(lines)})"
