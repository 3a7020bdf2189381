"""Which layers of a model keep running statistics, and why others are left alone."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from bnrecal.errors import BnrecalError


@dataclass(frozen=True)
class Layer:
    """A BatchNorm to re-estimate, under its first name in the model."""

    name: str
    module: _BatchNorm

    @property
    def running_mean(self) -> Tensor:
        assert self.module.running_mean is not None
        return self.module.running_mean

    @property
    def running_var(self) -> Tensor:
        assert self.module.running_var is not None
        return self.module.running_var

    @property
    def n_channels(self) -> int:
        return self.running_mean.numel()


def find_layers(model: nn.Module) -> tuple[list[Layer], dict[str, str]]:
    """(layers to re-estimate, {name of a normalisation layer left alone: why}).

    A BatchNorm in eval mode inside a model of which something is in train mode is frozen. A model
    handed over wholly in eval mode has none frozen. Raises BnrecalError if no layer is live.
    """
    any_training = any(module.training for module in model.modules())
    live: list[Layer] = []
    left: dict[str, str] = {}
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            if module.running_mean is None or module.running_var is None:
                left[name] = "keeps no running statistics (track_running_stats=False)"
            elif any_training and not module.training:
                left[name] = "frozen: in eval mode inside a model in train mode"
            else:
                live.append(Layer(name, module))
        elif isinstance(module, nn.GroupNorm | nn.LayerNorm | _InstanceNorm):
            left[name] = f"nothing to recalibrate: {type(module).__name__} normalises each image by itself"
        elif type(module).__name__.startswith("FrozenBatchNorm"):
            left[name] = "frozen by its type: its statistics are constants"
    if not live:
        by_reason: dict[str, list[str]] = {}
        for name, reason in left.items():
            by_reason.setdefault(reason, []).append(name or "it")
        why = "; ".join(
            f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {reason}"
            for reason, names in by_reason.items()
        )
        raise BnrecalError(f"the model has no BatchNorm to recalibrate ({why or 'none at all'})")
    return live, left
