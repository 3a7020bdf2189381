"""What an architecture costs: operations of one forward and parameters, added up over layers where they add.

FLOPs are multiply-accumulates, as SPOS, BN-NAS and NAS-Bench-Macro count them: half of what
torch.utils.flop_counter gives, which counts a multiplication and an addition. Convolutions and matrix
products count, those of attention and of recurrent layers too; normalisation, activations and pooling do
not.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bnrecal.search.space import Choices, Space

# how an image goes through an architecture: (a fresh module, forward(module, images))
Built = tuple[nn.Module, Callable[[nn.Module, Tensor], object]]
Build = Callable[[str], Built]

_CHECKED = 32  # random architectures on which sums over layers must be exact
_SEED = 14


@dataclass(frozen=True)
class Cost:
    """Of one architecture and one image."""

    flops: int  # multiply-accumulates
    params: int  # numbers the module learns, shared ones once

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.flops + other.flops, self.params + other.params)

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(self.flops - other.flops, self.params - other.params)


def count(built: Built, input_shape: Sequence[int]) -> Cost:
    """Counted on a run of one image of zeros, `input_shape` (channels, height, width), in eval mode.

    The module is left in eval mode.
    """
    module, forward = built
    parameters = {id(p): p for p in module.parameters()}.values()
    device = next((p.device for p in parameters), torch.device("cpu"))
    module.eval()
    images = torch.zeros(1, *input_shape, device=device)
    with torch.no_grad(), _step_by_step(module), FlopCounterMode(display=False) as counter:
        forward(module, images)
    return Cost(counter.get_total_flops() // 2, sum(p.numel() for p in parameters))


@contextmanager
def _step_by_step(module: nn.Module) -> Iterator[None]:
    """Without the kernels that do several products at once, which the counter takes for nothing.

    These are fused attention, the fast path of encoder layers in eval mode, and oneDNN's recurrent layers;
    where there are none of those, oneDNN stays, since its convolutions are much faster.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
        torch.backends.mha.set_fastpath_enabled(False)
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if any(isinstance(m, nn.RNNBase) for m in module.modules()):
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")  # torch warns of Intel GPUs whenever oneDNN's flags are set
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
        yield


@dataclass(frozen=True)
class Additive:
    """cost(a) = base + sum over layers l of parts[l][a_l]: `base` is that of every layer's first choice."""

    base: Cost
    parts: tuple[dict[int, Cost], ...]  # (layers){allowed choice: what it costs beyond the first}

    def of(self, choices: Choices) -> Cost:
        return sum((part[c] for part, c in zip(self.parts, choices, strict=True)), self.base)


class Costs:
    """Costs of a space's architectures; each is counted once.

    Built for every layer's first choice and every single change of it; if the sums are exact for 32 random
    architectures as well, no other is built but to `confirm`. Otherwise (`additive` is None: widths that
    depend on each other) each is counted by itself when it is asked for.
    """

    def __init__(self, space: Space, build: Build, input_shape: Sequence[int]) -> None:
        self.space, self.build, self.input_shape = space, build, tuple(input_shape)
        self._known: dict[Choices, Cost] = {}
        self.additive = self._added_up()

    def of(self, arch: str) -> Cost:
        return self.of_choices(self.space.decode(arch))

    def of_choices(self, choices: Choices) -> Cost:
        if self.additive is not None and self.space.allows(choices):
            return self.additive.of(choices)
        return self._counted(choices)

    def confirm(self, archs: Iterable[str]) -> bool:
        """Whether these cost what sums over layers say, each built and counted; yes where none are added up.

        Random ones cannot show what a rare combination costs. If one differs, `additive` is None from now on.
        """
        if self.additive is None:
            return True
        chosen = [choices for choices in map(self.space.decode, archs) if self.space.allows(choices)]
        if all(self.additive.of(choices) == self._counted(choices) for choices in chosen):
            return True
        self.additive = None
        return False

    def _counted(self, choices: Choices) -> Cost:
        if choices not in self._known:
            self._known[choices] = count(self.build(self.space.encode(choices)), self.input_shape)
        return self._known[choices]

    def _added_up(self) -> Additive | None:
        first = tuple(options[0] for options in self.space.allowed)
        base = self._counted(first)
        found = Additive(
            base,
            tuple(
                {c: self._counted((*first[:at], c, *first[at + 1 :])) - base for c in options}
                for at, options in enumerate(self.space.allowed)
            ),
        )
        tried = self.space.random(min(_CHECKED, self.space.size), _SEED)
        exact = all(found.of(c) == self._counted(c) for c in map(self.space.decode, tried))
        return found if exact else None
