"""What a BatchNorm computes during a walk, by its type."""

import types
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnrecal.errors import BnrecalError

_TORCH_TYPES = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def _in_a_group() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def is_compiled(model: nn.Module) -> bool:
    """Whether torch.compile took part of the model, by wrapping or in place."""
    return any(
        getattr(module, "_orig_mod", None) is not None or module._compiled_call_impl is not None
        for module in model.modules()
    )


def eager_only() -> AbstractContextManager[None]:
    """Within it compiled code runs as it was written: lent forwards would be compiled anew each time."""
    context: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return context


def of_nothing(module: _BatchNorm) -> Callable[..., Any]:
    """What the module gives for no values at all, with no trace in its buffers."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        training, module.training = module.training, False
        try:
            return type(module).forward(module, *args, **kwargs)
        finally:
            module.training = training

    return forward


def is_trusted(module: _BatchNorm) -> bool:
    """Whether this type's forward is known to leave the kernel's moments in its buffers."""
    home = type(module).__module__
    return type(module) in _TORCH_TYPES or home.startswith("timm.")


def forward_of(module: _BatchNorm, lent: tuple[Tensor, Tensor] | None) -> Callable[..., Any]:
    """What the module computes, on the lent buffers if there are any.

    For torch's own types that is one kernel; calling it without the bookkeeping around it pays for
    the walk's own. A SyncBatchNorm runs as if it were alone: merge.py joins the processes.
    """
    if lent is not None and type(module) in _TORCH_TYPES and "forward" not in module.__dict__:
        check: Callable[[Tensor], None] = module._check_input_dim
        mean, var = lent
        own, eps, cudnn = module._parameters, module.eps, torch.backends.cudnn.enabled

        def kernel(input: Tensor) -> Tensor:
            check(input)
            # looked up at each call, since functional_call and its like put others in their place
            try:
                weight, bias = own["weight"], own["bias"]
            except KeyError:
                weight, bias = module.weight, module.bias
            return torch.batch_norm(input, weight, bias, mean, var, True, 1.0, eps, cudnn)

        return kernel
    by_batch: Callable[..., Any] | None = getattr(module, "by_batch", None)
    if by_batch is not None:  # its train mode is more than BatchNorm over the batch, which this method is
        evaluated = module.forward
        return lambda *args, **kwargs: (by_batch if module.training else evaluated)(*args, **kwargs)
    if type(module) is nn.SyncBatchNorm:
        return types.MethodType(_BatchNorm.forward, module)
    if isinstance(module, nn.SyncBatchNorm) and _in_a_group():
        raise BnrecalError(
            f"a {type(module).__name__} normalises across processes in a way of its own; convert it to "
            "nn.SyncBatchNorm or a plain BatchNorm before recalibrating in several processes"
        )
    forward: Callable[..., Any] = module.forward
    return forward
