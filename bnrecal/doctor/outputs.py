"""What a model gives for some images, comparable image by image where it can be."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from bnrecal.errors import BnrecalError
from bnrecal.recalibration.batches import Forward, count_images

_HALF = (torch.float16, torch.bfloat16)


class NotByImageError(BnrecalError):
    """Outputs that cannot be compared image by image."""


@dataclass(frozen=True)
class Outputs:
    """The floating-point outputs of a model, each (images, numbers) in float64."""

    tensors: tuple[Tensor, ...]
    half: bool  # whether they were computed in half precision

    @staticmethod
    def of(model: nn.Module, batches: Iterable[Any], forward: Forward) -> "Outputs":
        """Run the batches; raises BnrecalError if outputs do not go by image (lists of detections)."""
        with torch.no_grad():
            return Outputs.gathered((count_images(batch), forward(model, batch)) for batch in batches)

    @staticmethod
    def gathered(given_by_batch: Iterable[tuple[int, Any]]) -> "Outputs":
        """From (images, what the model gave) of each batch."""
        parts: list[list[Tensor]] = []
        half = False
        for n, given in given_by_batch:
            leaves = [leaf for leaf in pytree.tree_leaves(given) if isinstance(leaf, Tensor)]
            floats = [leaf for leaf in leaves if leaf.is_floating_point()]
            if not floats or not all(leaf.dim() and len(leaf) == n for leaf in floats):
                raise NotByImageError("the model's outputs are no tensors with an entry per image")
            half |= any(leaf.dtype in _HALF for leaf in floats)
            parts.append([leaf.detach().cpu().double().reshape(n, -1) for leaf in floats])
        try:
            return Outputs(tuple(torch.cat(column) for column in zip(*parts, strict=True)), half)
        except (RuntimeError, ValueError):
            raise NotByImageError("the model's outputs have another shape in each batch") from None

    @property
    def finite(self) -> bool:
        return all(bool(tensor.isfinite().all()) for tensor in self.tensors)

    @property
    def varies(self) -> bool:
        """Whether they depend on the image at all; of a single image nothing is known."""
        return len(self.tensors[0]) < 2 or any(
            float((t - t[:1]).abs().max()) > 1e-6 * float(t.abs().max()) for t in self.tensors if t.numel()
        )

    @property
    def rounding(self) -> float:
        """Distances below this are arithmetic: another kernel, another order of adding up."""
        return 0.1 if self.half else 1e-2

    def distance(self, other: "Outputs") -> float:
        """Root mean square difference by how much outputs differ between images; the worst tensor's."""
        worst = 0.0
        for a, b in zip(self.tensors, other.tensors, strict=True):
            if a.shape != b.shape or not bool((a.isfinite() == b.isfinite()).all()):
                return math.inf
            ok = a.isfinite()
            if not bool(ok.any()):
                continue
            gap = float((a - b)[ok].square().mean().sqrt())
            spread = float(a.std(0, correction=0)[ok.all(0)].square().mean().sqrt())
            scale = max(spread, 1e-6 * float(a[ok].abs().max()))
            worst = max(worst, gap / scale if scale else gap)
        return worst
