"""A training recipe: everything that decides how weights come about, but for images and network.

Plain data, read and planned with without torch. A field that has no say in a recipe (the momentum of AdamW,
the norm batch of a GroupNorm) is put back to its default, so that recipes that train alike are one recipe
with one key.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bnrecal.errors import BnrecalError, unknown_choice
from bnrecal.study.axes import Count, Seed
from bnrecal.study.inputs import valid

# Raise when a change of code changes what a recipe trains: networks of the old version are trained again.
TRAINING_ALGORITHM = 1

Unit = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Beta = Annotated[float, Field(ge=0, lt=1)]

# Normalisations (bnrecal.norms): the fields that each of them heeds.
_BY_BATCH = ("norm_batch", "bn_momentum")
NORMS: dict[str, tuple[str, ...]] = {
    "bn": _BY_BATCH,
    "gn": ("groups",),
    "ln": (),
    "in": (),
    "brn": (*_BY_BATCH, "rmax", "dmax"),
    "cbn": (*_BY_BATCH, "window", "burn_in"),
    "naive-cbn": (*_BY_BATCH, "window", "burn_in"),
    "evalnorm": _BY_BATCH,
    "frozen": (),
}
# What None stands for in layers and optimisers (bnrecal.norms, bnrecal.optimisers): said, it becomes None.
# norm_batch is not among them: of the whole batch it is another layer's, and rows are kept that say it.
OF_LAYERS = {"groups": 32, "window": 4, "burn_in": 0.0}
ADAPTED = {"lars": "weights", "larc": "all"}
TRAINED_AS = {"evalnorm": "bn"}  # norms that differ from another in evaluation alone
RENORM_BOUNDS = {"rmax": 3.0, "dmax": 5.0}  # of brn in the end (Ioffe 2017)


@dataclass(frozen=True)
class Usual:
    """What an optimiser starts from when nothing is said, and the fields that only some heed."""

    lr: float
    weight_decay: float
    heeds: tuple[str, ...]
    trust_coefficient: float | None = None


_LAYERWISE = ("momentum", "nesterov", "trust_coefficient", "adapt")
# trust coefficients: You et al. 2017 (LARS); NVIDIA apex (LARC)
OPTIMIZERS: dict[str, Usual] = {
    "sgd": Usual(0.05, 5e-4, ("momentum", "nesterov")),
    "adamw": Usual(0.001, 0.05, ("betas",)),
    "lars": Usual(2.0, 5e-4, _LAYERWISE, 0.001),
    "larc": Usual(0.05, 5e-4, _LAYERWISE, 0.02),
}
MOST_BINS = 1000
# These have no running statistics: there is nothing to re-estimate.
WITHOUT_STATISTICS = tuple(norm for norm, heeded in NORMS.items() if "bn_momentum" not in heeded)
_ONLY_SOME_HEED = {
    "norm": {name for fields in NORMS.values() for name in fields},
    "optimizer": {name for usual in OPTIMIZERS.values() for name in usual.heeds},
}


class Recipe(BaseModel):
    """How to train; a default never changes without a new TRAINING_ALGORITHM, since keys leave it out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    norm: str = "bn"
    groups: Count | None = None  # of gn; None: as bnrecal.norms has it, like the next two
    window: Count | None = None  # of cbn and naive-cbn: steps that count, the current one included
    burn_in: Amount | None = None  # of the same: epochs of plain BatchNorm before
    rmax: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None  # of brn, risen to as in the
    dmax: Amount | None = None  # paper (train/norms.py); None: RENORM_BOUNDS
    norm_batch: Count | None = None  # images that one normalisation sees; None: all of a forward
    bn_momentum: Unit | None = None  # None: as the network has it; 0: statistics are never kept
    batch_size: Count = 64  # images of a step
    physical_batch: Count | None = None  # images of a forward; gradients are gathered over a step
    drop_last: bool = True  # images that do not fill the last batch of an epoch are left out of it
    batches: Literal["shuffled", "class-pairs"] = "shuffled"  # order of an epoch (train/order.py)
    epochs: Count = 10
    optimizer: str = "sgd"
    lr: Positive | None = None  # the highest of the schedule; None: as OPTIMIZERS has it, like two others
    lr_scaling: Literal["none", "linear", "sqrt"] = "none"  # lr times batch_size / lr_batch, or its root
    lr_batch: Count = 256
    momentum: Beta = 0.9
    nesterov: bool = False
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    trust_coefficient: Positive | None = None
    adapt: Literal["weights", "all"] | None = None  # who has a layer's rate; None: as bnrecal.optimisers
    weight_decay: Amount | None = None  # of parameters with two dimensions or more
    decay_vectors: bool = False  # also of those with one: biases, and weights of normalisations
    clip_norm: Positive | None = None  # of the whole gradient
    schedule: Literal["one-cycle", "cosine", "linear", "constant"] = "cosine"
    warmup: Amount | None = None  # epochs in which lr rises
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] | None = None  # the same, of all steps
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    augment: Literal["none", "flip", "crop-flip"] = "none"
    trainable: Literal["all", "norm", "last-norm"] = "all"
    sampling: Literal["none", "uniform", "fair"] = "none"  # paths of a supernet
    flops_bins: tuple[Positive, Positive, Positive] | None = None  # of uniform: lowest, highest, bin width
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    seed: Seed = 0

    @model_validator(mode="after")
    def _settled(self) -> Self:
        """Unknown names and numbers that do not fit together are errors; what is open is filled."""
        for field, known in (("norm", NORMS), ("optimizer", OPTIMIZERS)):
            if getattr(self, field) not in known:
                raise unknown_choice(field, getattr(self, field), known, field)
        usual = OPTIMIZERS[self.optimizer]
        filled = {
            name: getattr(usual, name)
            for name in ("lr", "weight_decay", "trust_coefficient")
            if getattr(self, name) is None
        }
        filled |= {name: value for name, value in RENORM_BOUNDS.items() if getattr(self, name) is None}
        unheeded = {name: type(self).model_fields[name].default for name in self.unheeded()}
        self.__dict__.update({**filled, **unheeded})  # frozen for everybody else
        for check in _CHECKS:
            check(self)
        self.__dict__.update(dict.fromkeys(self._said_anyway()))
        return self

    def _said_anyway(self) -> Iterator[str]:
        """The fields that say what holds where nothing is said."""
        usual = {
            **OF_LAYERS,
            "adapt": ADAPTED.get(self.optimizer),
            "physical_batch": self.batch_size,
            **({} if self.schedule == "one-cycle" else {"warmup": 0.0, "warmup_fraction": 0.0}),
        }
        return (name for name, value in usual.items() if getattr(self, name) == value)

    def unheeded(self) -> set[str]:
        """The fields that change nothing in this recipe, whatever they say."""
        found = _ONLY_SOME_HEED["norm"] - set(NORMS[self.norm])
        found |= _ONLY_SOME_HEED["optimizer"] - set(OPTIMIZERS[self.optimizer].heeds)
        found |= {"lr_batch"} if self.lr_scaling == "none" else set()
        return found | ({"flops_bins"} if self.sampling != "uniform" else set())

    @property
    def twin(self) -> "Recipe | None":
        """The recipe that trains the same weights, where this one's norm differs in evaluation alone."""
        if self.norm not in TRAINED_AS:
            return None
        return self.model_copy(update={"norm": TRAINED_AS[self.norm]})

    @property
    def peak_lr(self) -> float:
        """The highest learning rate: lr, scaled to the batch size if so asked."""
        assert self.lr is not None
        ratio = self.batch_size / self.lr_batch
        return self.lr * {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[self.lr_scaling]

    @property
    def forward_batch(self) -> int:
        """Images of one forward."""
        return min(self.physical_batch or self.batch_size, self.batch_size)

    def facts(self) -> dict[str, Any]:
        """The fields that are not at their defaults, as JSON knows them."""
        fields = type(self).model_fields
        given = self.model_dump(mode="json")
        return {name: given[name] for name in fields if getattr(self, name) != fields[name].default}

    @property
    def key(self) -> str:
        """Digest of the facts and the version of training; 20 hex digits."""
        facts = json.dumps({"training": TRAINING_ALGORITHM, **self.facts()}, sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()[:20]


def make_recipe(settings: Mapping[str, Any], places: Mapping[str, str] | None = None) -> Recipe:
    """A recipe from the settings somebody gave.

    Raises BnrecalError naming the place of the first that does not fit, and one that changes nothing in
    this recipe.
    """
    places = places or {}
    recipe = valid(Recipe, settings, places)
    for name in settings:
        if name in recipe.unheeded():
            raise without_effect(name, [recipe], places.get(name, name))
    return recipe


def without_effect(name: str, recipes: list[Recipe], place: str) -> BnrecalError:
    """The error for a setting that none of these recipes heeds."""
    for field, table in (("norm", NORMS), ("optimizer", {k: v.heeds for k, v in OPTIMIZERS.items()})):
        if name in _ONLY_SOME_HEED[field]:
            heeding = [choice for choice, fields in table.items() if name in fields]
            here = ", ".join(dict.fromkeys(getattr(recipe, field) for recipe in recipes))
            return BnrecalError(
                f"{place}: changes nothing with {field} {here}; {field} is to be one of {', '.join(heeding)}"
            )
    if name == "flops_bins":
        return BnrecalError(f"{place}: changes nothing without sampling uniform")
    return BnrecalError(f"{place}: changes nothing with lr_scaling none; use linear or sqrt")


def _check_batches(recipe: Recipe) -> None:
    if recipe.physical_batch is not None and recipe.physical_batch > recipe.batch_size:
        raise BnrecalError(
            f"physical_batch: {recipe.physical_batch} is more than the {recipe.batch_size} images of a step "
            "(batch_size)"
        )
    for name in ("batch_size", "physical_batch"):
        size = getattr(recipe, name)
        if recipe.norm_batch is not None and size is not None and size % recipe.norm_batch:
            raise BnrecalError(
                f"norm_batch: {recipe.norm_batch} does not divide {name} {size}; a normalisation sees whole "
                "groups of so many images"
            )


def _check_pairs(recipe: Recipe) -> None:
    """Pairs are not cut by the end of a batch; a norm batch of one image has no partner to see."""
    for name in ("batch_size", "physical_batch", "norm_batch"):
        size = getattr(recipe, name)
        if recipe.batches == "class-pairs" and size is not None and size % 2 and size != 1:
            raise BnrecalError(
                f"{name}: {size} images cut pairs of one class (batches class-pairs); use an even number"
            )


def _check_schedule(recipe: Recipe) -> None:
    if recipe.warmup is not None and recipe.warmup_fraction is not None:
        raise BnrecalError("warmup, warmup_fraction: two ways to say one thing; give one of them")
    if recipe.warmup is not None and recipe.warmup >= recipe.epochs:
        raise BnrecalError(
            f"warmup: {recipe.warmup:g} epochs of {recipe.epochs}; use fewer than all (epochs)"
        )
    if recipe.nesterov and not recipe.momentum:
        raise BnrecalError("nesterov: needs a momentum above 0")


def _check_bins(recipe: Recipe) -> None:
    if recipe.flops_bins is not None:
        low, high, width = recipe.flops_bins
        if high <= low or (high - low) / width > MOST_BINS:
            raise BnrecalError(
                f"flops_bins: {low:g}, {high:g}, {width:g}; needs the lowest FLOPs, more as the highest, "
                f"and a width that makes at most {MOST_BINS:,} bins of them"
            )


_CHECKS: tuple[Callable[[Recipe], None], ...] = (_check_batches, _check_pairs, _check_schedule, _check_bins)
