"""One step of training: forwards, gradients, the optimiser."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bnrecal.networks.learner import Choices, Learner
from bnrecal.study.recipe import Recipe
from bnrecal.train.norms import (
    renorm_layers,
    set_burn_in,
    set_momentum,
    set_renorm_bounds,
    training_conversion,
)
from bnrecal.train.numerics import autocast, gradient_scaler
from bnrecal.train.objective import Objective
from bnrecal.train.parameters import make_optimiser, set_learning_rate, set_trainable
from bnrecal.train.ranks import ALONE, Ranks
from bnrecal.train.shards import forwards, shards
from bnrecal.train.together import Together


@dataclass(frozen=True)
class Learning:
    """A module on its device with what changes it."""

    recipe: Recipe
    module: nn.Module
    forward: Callable[[nn.Module, Any], Any]
    choices: Choices | None  # where paths are sampled
    parameters: list[nn.Parameter]
    renorm: list[nn.Module]  # whose bounds follow the steps
    optimiser: Optimizer
    scaler: torch.amp.GradScaler
    objective: Objective
    device: torch.device
    together: Together

    @classmethod
    def of(
        cls,
        learner: Learner,
        recipe: Recipe,
        objective: Objective,
        device: torch.device,
        steps: int,
        ranks: Ranks = ALONE,
    ) -> "Learning":
        """Raises BnrecalError for what the network has not: normalisations to train, or to convert."""
        convert = training_conversion(recipe)
        module = learner.module if convert is None else convert(learner.module)
        together = Together(ranks)
        module = together.synchronised(module)
        module = module.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        set_momentum(module, recipe.bn_momentum)
        set_burn_in(module, recipe, steps)
        choices = None if learner.choices is None else learner.choices(module)
        parameters = set_trainable(module, recipe.trainable, choices)
        forward = learner.forward
        if choices is None:
            forward = together.wrapped(module, forward)
        return cls(
            recipe,
            module,
            forward,
            choices,
            parameters,
            renorm_layers(module),
            make_optimiser(parameters, recipe),
            gradient_scaler(recipe.precision, device),
            objective,
            device,
            together,
        )

    def step(
        self, images: Tensor, at: Tensor, paths: Sequence[Sequence[int]], lr: float, done: float
    ) -> Tensor:
        """Change the weights once; the mean loss of the batch over the paths, a scalar without gradient.

        `images` are this process' of the step, `at` the places of all. `done`: the part of all steps that
        lie behind.
        """
        set_renorm_bounds(self.renorm, self.recipe, done)
        set_learning_rate(self.optimiser, lr)
        self.optimiser.zero_grad(set_to_none=True)
        modules = [self._path(path) for path in paths] if paths else [self.module]
        losses = [self._gradients(module, images, at) for module in modules]
        self.together.end_step(self.parameters)
        if all(parameter.grad is None for parameter in self.parameters):
            return self._loss(losses)
        if self.recipe.clip_norm is not None:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return self._loss(losses)

    def _loss(self, losses: list[Tensor]) -> Tensor:
        """The mean over paths of all processes' loss."""
        return self.together.ranks.summed(losses[0] if len(losses) == 1 else torch.stack(losses).mean())

    def _path(self, path: Sequence[int]) -> nn.Module:
        assert self.choices is not None
        return self.choices.path(path).train()

    def _gradients(self, module: nn.Module, images: Tensor, at: Tensor) -> Tensor:
        """Add the gradients of the batch's mean loss, by parts of so many images as fit a forward.

        Returns this process' part of that loss.
        """
        ranks, cut = self.together.ranks, forwards(len(at), self.recipe)
        if len(cut) == ranks.n == 1:
            return self._part(module, images, at, 1.0)
        weight, losses, begins = self.objective.weight(at), [], 0
        for k, forward in enumerate(cut):
            shares = shards(forward, self.recipe, ranks.n)
            own = shares[ranks.rank]
            x, a = images[begins : begins + own.stop - own.start], at[own]
            begins += len(x)
            share = self.objective.weight(a) / weight
            with self.together.forward(shares, k == len(cut) - 1):
                losses.append(self._part(module, x, a, share))
        return torch.stack(losses).sum()

    def _part(self, module: nn.Module, images: Tensor, at: Tensor, share: float) -> Tensor:
        with autocast(self.recipe.precision, self.device):
            output = self.forward(module, images)
        loss = self.objective.loss(output, at)
        if share != 1.0:
            loss = loss * share
        scaled = loss if self.together.scale == 1.0 else loss * self.together.scale
        if scaled.requires_grad:  # else nothing on this path learns, as identities under last-norm
            self.scaler.scale(scaled).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on."""
        return {
            "module": self.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state["module"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
