"""Where the parts run and how large they are."""

from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor, nn


@dataclass(frozen=True)
class Place:
    """A device, and sizes: small on the processor, where only speed is left unknown."""

    device: torch.device
    small: bool

    @property
    def n_images(self) -> int:
        return 64 if self.small else 2048

    @property
    def side(self) -> int:
        return 32 if self.small else 224

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        return (8, 32) if self.small else (8, 32, 128, 512)

    @property
    def rounds(self) -> int:
        return 2 if self.small else 7

    def network(self) -> nn.Module:
        """ResNet-18 with the same untrained weights each time, in evaluation mode."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return torchvision.models.resnet18(weights=None).to(self.device).eval()

    def images(self, n: int) -> Tensor:
        """The same n images each time, whatever the device: (n, 3, side, side)."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(n, 3, self.side, self.side, generator=generator).to(self.device)
