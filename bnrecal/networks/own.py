"""The user's own networks: "my_package.my_module:factory".

The factory is called without arguments, or with those of `n_classes`, `channels`, `image_size` (height,
width) that it names. It returns either

- a torch.nn.Module: one architecture, named as the factory; or
- an object with `archs` (names, the first ones of a study) and `build(arch)`, which returns a fresh
  module for one of them: a supernet. If it has `sample(n, seed)`, `--arch random:K` asks it for names,
  and `build` takes any name it gives. If it is a module itself, --weights are loaded into it; otherwise
  into what it builds. It can be trained by sampled paths if it is a module with `subnet(choices)`, the
  single-path model that takes these (numbers from 0) and shares its weights, and `blocks` (a ModuleList of
  candidates per layer), `choices` or both.

A supernet may also tell what it is made of:

- `choices`: for each layer the choices it has, as they are written, such as `(("2", "4"), ("2", "4", "8"))`,
  or how many, then written "0", "1", ... if `archs` are written so. An architecture is a choice of each
  layer joined by `separator`, by default "-"; `build` then takes every such name, and `--arch random:K` draws
  among them if there is no `sample`;
- `candidate(layer, choice)`, by their numbers: the module that carries out that choice, or None for one
  that does nothing. The `bn` judge reads its last BatchNorm;
- `chain(arch)`: the modules that `build(arch)` runs one after another, nothing between them, each given
  what the one before returned. The same object in two chains means the same weights: subnets that begin
  alike are then calibrated and evaluated together up to where they part.

Either may have `predict(output)`: what the module gave for some images, to class indices (images,) for
top-1 or to `bnrecal.metrics.boxes.Detections` for mAP; and `forward(module, images)`. Without them a
classifier's logits are expected and module(images) is called. `preprocessing` may be a dict of the
options image_size, resize, fit, channels, mean, std, for `--preprocess model`.
"""

import copy
import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import nn

from bnrecal.data.user_code import code_of, imported, on_stderr
from bnrecal.errors import BnrecalError
from bnrecal.networks.built import INITIAL_SEED, BuiltNetworks, initial_seed
from bnrecal.networks.forward import plain_forward
from bnrecal.networks.learner import Choices, Learner
from bnrecal.networks.network import Convert, Network, Purpose
from bnrecal.networks.predictions import class_indices
from bnrecal.search.space import Space

PREPROCESSING = ("image_size", "resize", "fit", "interpolation", "channels", "mean", "std", "transforms")


class OwnNetworks(BuiltNetworks):
    """What a factory of the user's returns, as a source."""

    def __init__(
        self,
        spec: str,
        weights: Path | None,
        task: Purpose,
        convert: Convert | None = None,
        seed: int = INITIAL_SEED,
        alone: bool = False,
    ) -> None:
        """`alone`: the weights are of one architecture by itself, not of a supernet that builds it."""
        super().__init__(spec, weights, task, convert)
        self.alone = alone
        given = {
            "n_classes": len(task.classes),
            "channels": task.input_shape[0],
            "image_size": task.input_shape[1:],
        }
        factory = _factory(spec)
        with initial_seed(seed):  # a factory's module is initialised here, in each process anew
            self.made = _called(factory, spec, given)
        self._builds = callable(getattr(self.made, "build", None))
        if not self._builds and not isinstance(self.made, nn.Module):
            kind = type(self.made).__name__
            raise BnrecalError(f"--model: {spec} returned a {kind}; allowed: {_ALLOWED}")
        self.names = _names(self.made, spec) if self._builds else (spec.rpartition(":")[2],)
        if task.metric == "map50" and not callable(getattr(self.made, "predict", None)):
            raise BnrecalError(
                f"--model: {spec} has no predict(output); task {task.name} needs one that gives "
                "bnrecal.metrics.boxes.Detections"
            )
        if self._is_filled_whole:
            self.made = self.made if convert is None else convert(self.made)
            super().fill(self.made)

    @property
    def _is_filled_whole(self) -> bool:
        """Whether weights go into the module that builds, before it does."""
        return self._builds and isinstance(self.made, nn.Module) and not self.alone

    def random(self, n: int, seed: int) -> tuple[str, ...]:
        sample = getattr(self.made, "sample", None)
        if not callable(sample):
            return self.space.random(n, seed) if self.space else super().random(n, seed)
        found = _run(
            lambda: tuple(str(arch) for arch in sample(n, seed)), f"{self.spec}: sample({n}, {seed})"
        )
        if len(set(found)) < n:
            raise BnrecalError(
                f"--arch: {self.spec}: sample({n}, {seed}) gave {len(set(found))} different names"
            )
        return tuple(found[:n])

    def check_name(self, arch: str) -> None:
        if self.space is not None and arch not in self.names:
            self.space.decode(arch)
        elif not callable(getattr(self.made, "sample", None)):
            super().check_name(arch)

    def digest(self, arch: str) -> str:
        """Also of the factory's file: `forward` and `predict` decide figures as weights do."""
        return hashlib.sha256(super().digest(arch).encode() + code_of(self.spec)).hexdigest()[:16]

    def make(self, arch: str) -> Network:
        if self._builds:
            module = _run(lambda: self.made.build(arch), f"{self.spec}: build({arch!r})")
        else:
            module = self.made
        if not isinstance(module, nn.Module):
            raise BnrecalError(f"--model: {self.spec}: build({arch!r}) returned a {type(module).__name__}")
        predict: Callable[[Any], Any] = getattr(self.made, "predict", class_indices)
        forward = plain_forward
        if callable(getattr(self.made, "forward", None)) and not isinstance(self.made, nn.Module):
            forward = self.made.forward
        if predict is not class_indices:  # known by that name to whoever checks a classifier
            predict = on_stderr(predict)
        forward = on_stderr(forward)
        own = _run(lambda: copy.deepcopy(module), f"{self.spec}: copying {type(module).__name__}")
        return Network(own, predict, forward)  # builds may share, networks do not

    @functools.cached_property
    def space(self) -> Space | None:
        given = _run(lambda: getattr(self.made, "choices", None), f"{self.spec}: choices")
        if given is None or not self._builds:
            return None
        layers = [_texts(choices) for choices in given] if _is_listing(given) else []
        if not layers or not all(layers):
            raise BnrecalError(
                f"--model: {self.spec}: choices {given!r}; needs the choices of each layer, as texts, or how "
                "many there are"
            )
        space = Space(tuple(layers), str(getattr(self.made, "separator", "-")))
        for choice in (choice for choices in layers for choice in choices if "," in choice):
            raise BnrecalError(
                f"--model: {self.spec}: choice {choice!r} has a comma, which parts architectures in lists"
            )
        try:
            for arch in self.names:
                space.decode(arch, f"--model: {self.spec}: archs and choices do not agree")
        except BnrecalError:
            if all(isinstance(choices, int) for choices in given):
                return None  # choices that are counted, for training, need not be what names are made of
            raise
        return space

    def candidate(self, layer: int, choice: int) -> nn.Module | None:
        if not callable(getattr(self.made, "candidate", None)):
            raise BnrecalError(
                f"--model: {self.spec} has no candidate(layer, choice), so its BatchNorms cannot be judged"
            )
        what = f"candidate({layer}, {choice})"
        found = _run(lambda: self.made.candidate(layer, choice), f"{self.spec}: {what}")
        if found is not None and not isinstance(found, nn.Module):
            raise BnrecalError(f"--model: {self.spec}: {what} returned a {type(found).__name__}")
        return found

    def chain(self, arch: str) -> tuple[nn.Module, ...] | None:
        if not callable(getattr(self.made, "chain", None)):
            return None
        found: tuple[Any, ...] = _run(lambda: tuple(self.made.chain(arch)), f"{self.spec}: chain({arch!r})")
        for link in found:
            if not isinstance(link, nn.Module):
                raise BnrecalError(f"--model: {self.spec}: chain({arch!r}) holds a {type(link).__name__}")
        return found

    def fill(self, module: nn.Module) -> None:
        """Weights go into the supernet, if it is a module, before it builds."""
        if not self._is_filled_whole:
            super().fill(module)

    def _converted(self, network: Network) -> Network:
        """A supernet that is a module was converted before it was filled."""
        return network if self._is_filled_whole else super()._converted(network)

    def learner(self, arch: str | None, seed: int) -> Learner:
        """What the factory gives under `torch.manual_seed(seed)`; for None its supernet."""
        fresh = OwnNetworks(self.spec, self.weights, self.task, self.convert, seed)
        if arch is None and _has_choices(fresh.made):
            module, forward = fresh.made, plain_forward
            learner = Learner(module, fresh._digest("", module), forward=forward, choices=_choices)
        else:
            learner = super(OwnNetworks, fresh).learner(arch, seed)
        digest = hashlib.sha256(learner.digest.encode() + code_of(self.spec)).hexdigest()[:16]
        return dataclasses.replace(learner, digest=digest)


def _has_choices(made: Any) -> bool:
    """Whether this is a supernet that can be trained by paths."""
    return (
        isinstance(made, nn.Module)
        and callable(getattr(made, "subnet", None))
        and (isinstance(getattr(made, "blocks", None), nn.ModuleList) or hasattr(made, "choices"))
    )


def _choices(module: Any) -> Choices:
    blocks = getattr(module, "blocks", None)
    operations: tuple[tuple[nn.Module, ...], ...] | None = None
    if isinstance(blocks, nn.ModuleList):
        operations = tuple(tuple(candidates) for candidates in blocks)  # type: ignore[arg-type]
    if hasattr(module, "choices"):
        return Choices(tuple(len(_texts(layer)) for layer in module.choices), module.subnet, operations)
    assert operations is not None
    return Choices(tuple(map(len, operations)), module.subnet, operations)


def _texts(choices: Any) -> tuple[str, ...]:
    """How the choices of a layer are written, which may be given or counted; empty if neither."""
    if isinstance(choices, int):
        return tuple(map(str, range(choices)))
    return tuple(map(str, choices)) if _is_listing(choices) else ()


_ALLOWED = "a torch.nn.Module, or an object with archs and build(arch)"


def preprocessing(spec: str) -> dict[str, Any]:
    """The factory's own `preprocessing`, a dict of some of PREPROCESSING.

    An attribute of the factory, since images are opened before networks are built.
    """
    found = getattr(_factory(spec), "preprocessing", None)
    if not isinstance(found, dict) or not found.keys() <= set(PREPROCESSING):
        raise BnrecalError(
            f"--preprocess: {spec} has no attribute preprocessing, a dict of {', '.join(PREPROCESSING)}"
        )
    return found


def _factory(spec: str) -> Callable[..., Any]:
    found = imported(spec, "--model")
    if not callable(found):
        raise BnrecalError(f"--model: {spec} is a {type(found).__name__}, not a factory: {_ALLOWED}")
    return found  # type: ignore[no-any-return]


def _called(factory: Callable[..., Any], spec: str, given: dict[str, Any]) -> Any:
    """The factory's result, with those arguments it names."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        parameters = {}  # type: ignore[assignment]
    needed = [
        name
        for name, p in parameters.items()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and name not in given
    ]
    if needed:
        raise BnrecalError(
            f"--model: {spec} needs {', '.join(needed)}; allowed arguments: {', '.join(given)}"
        )
    return _run(lambda: factory(**{k: v for k, v in given.items() if k in parameters}), spec)


def _run(call: Callable[[], Any], what: str) -> Any:
    try:
        return on_stderr(call)()
    except BnrecalError:
        raise
    except (Exception, SystemExit) as error:
        raise BnrecalError(f"--model: {what} raised {type(error).__name__}: {error}") from error


def _is_listing(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str)


def _names(made: Any, spec: str) -> tuple[str, ...]:
    given = _run(lambda: getattr(made, "archs", None), f"{spec}: archs")
    names = tuple(given) if _is_listing(given) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise BnrecalError(
            f"--model: {spec} returned an object whose archs are no names: {given!r}; needs the names of "
            "some architectures, such as archs = ('small', 'large')"
        )
    return tuple(str(name) for name in names)
