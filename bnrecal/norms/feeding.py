"""Which convolution feeds a BatchNorm."""

import itertools

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnrecal.errors import BnrecalError


def feeding(model: nn.Module, found: dict[str, _BatchNorm]) -> dict[str, nn.Conv2d]:
    """The convolution whose output each of these layers normalises, nothing in between.

    By the flow of data where torch.fx can follow it, otherwise by the order of modules: the one right
    before the layer in the same parent. (The layer checks it at each forward.) Raises BnrecalError,
    naming the layer, where there is none, or one that computes more than a convolution.
    """
    fed = {**_by_order(found, model), **_by_flow(model)}
    chosen = {}
    for name, norm in found.items():
        convolution = fed.get(norm)
        if not isinstance(convolution, nn.Conv2d):
            raise BnrecalError(
                f"{name or 'the model'}: cbn needs the convolution whose output a layer normalises, and this "
                "one has none; valid for it are the other norms"
            )
        kind = type(convolution)
        if (kind.forward, kind._conv_forward) != (nn.Conv2d.forward, nn.Conv2d._conv_forward):
            raise BnrecalError(
                f"{name}: cbn needs a plain nn.Conv2d before it, and a {kind.__name__} does more"
            )
        chosen[name] = convolution
    return chosen


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        whole = isinstance(m, nn.Conv2d | _BatchNorm)
        return whole or super().is_leaf_module(m, module_qualified_name)


def _by_flow(model: nn.Module) -> dict[nn.Module, nn.Module | None]:
    """Layer -> the module whose output it gets, None for anything else; empty if it cannot be followed."""
    if isinstance(model, _BatchNorm):
        return {model: None}
    try:
        graph = _Tracer().trace(model)
    except Exception:  # control flow that depends on data, or calls that tracing does not know
        return {}
    fed: dict[nn.Module, nn.Module | None] = {}
    for node in graph.nodes:
        if node.op != "call_module":
            continue
        layer = model.get_submodule(node.target)
        before = node.args[0] if node.args else next(iter(node.kwargs.values()), None)
        called = isinstance(before, fx.Node) and before.op == "call_module"
        source = model.get_submodule(before.target) if called else None  # type: ignore[union-attr]
        fed[layer] = source if fed.get(layer, source) is source else None
    return fed


def _by_order(found: dict[str, _BatchNorm], model: nn.Module) -> dict[nn.Module, nn.Module | None]:
    norms = set(found.values())
    fed: dict[nn.Module, nn.Module | None] = {}
    for parent in model.modules():
        children = list(parent.children())
        for before, child in itertools.pairwise(children):
            matches = isinstance(before, nn.Conv2d) and before.out_channels == getattr(
                child, "num_features", 0
            )
            if child in norms and matches:
                fed[child] = before
    return fed
