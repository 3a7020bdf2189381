"""Recipes: keys, grids, labels, and what does not fit."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnrecal.errors import BnrecalError
from bnrecal.study.recipe import ADAPTED, NORMS, OF_LAYERS, OPTIMIZERS, Recipe, make_recipe
from bnrecal.study.recipes import label, recipes_of, varied_fields


def test_keys_stand() -> None:
    """Networks that were trained keep their names: these digests are for all time (or TRAINING_ALGORITHM is
    raised).
    """
    assert Recipe().key == KEYS[0]
    assert Recipe(norm="gn", groups=2, lr=0.1, seed=3, epochs=4).key == KEYS[1]


KEYS = ("a35b97e25225a3aa2cae", "6f67a35e2eecf5defce9")


def test_only_what_differs_from_the_default_is_in_the_key() -> None:
    """A field said with its default, or not heeded, is no other recipe; every other change is."""
    assert Recipe(momentum=0.9, lr=0.05, schedule="cosine").key == Recipe().key
    assert Recipe().facts() == {"lr": 0.05, "weight_decay": 5e-4}
    assert Recipe(optimizer="adamw", momentum=0.5).key == Recipe(optimizer="adamw").key
    assert Recipe(norm="gn", norm_batch=4) == Recipe(norm="gn")
    assert Recipe(lr_batch=64).key == Recipe().key
    changed = [
        Recipe(norm_batch=4),
        Recipe(seed=1),
        Recipe(lr=0.1),
        Recipe(weight_decay=0),
        Recipe(augment="flip"),
        Recipe(physical_batch=8),
        Recipe(lr_scaling="linear"),
    ]
    assert len({recipe.key for recipe in [Recipe(), *changed]}) == 1 + len(changed)


ALIKE = [
    ({"norm": "gn"}, {"groups": 32}),
    ({"norm": "cbn"}, {"window": 4}),
    ({"norm": "naive-cbn"}, {"burn_in": 0}),
    ({"optimizer": "lars"}, {"adapt": "weights"}),
    ({"optimizer": "larc"}, {"adapt": "all"}),
    ({"batch_size": 16}, {"physical_batch": 16}),
    ({}, {"warmup": 0}),
    ({"schedule": "linear"}, {"warmup_fraction": 0}),
]


@pytest.mark.parametrize(("base", "said"), ALIKE)
def test_what_holds_anyway_may_be_said(base: dict[str, Any], said: dict[str, Any]) -> None:
    """A recipe that says what holds where nothing is said is the same one, under the same key, and read back
    from its facts.
    """
    plain, told = make_recipe(base), make_recipe({**base, **said})
    assert told == plain
    assert told.key == plain.key
    assert make_recipe(told.facts()) == plain


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ({"optimizer": "lars"}, {"adapt": "all"}),
        ({"schedule": "one-cycle"}, {"warmup": 0}),
        ({"batch_size": 16}, {"norm_batch": 16}),  # another layer, and the key of rows that are kept
        ({"batch_size": 16}, {"physical_batch": 8}),
    ],
)
def test_what_does_not_hold_anyway_is_another_recipe(base: dict[str, Any], said: dict[str, Any]) -> None:
    """What another optimiser or schedule has for usual is not this one's."""
    assert make_recipe({**base, **said}).key != make_recipe(base).key


def test_what_none_stands_for_is_what_layers_and_optimisers_have() -> None:
    """The numbers that planning knows without torch are those of bnrecal.norms and bnrecal.optimisers."""
    import inspect

    from bnrecal.norms.cross_iteration import CrossIterationBatchNorm2d
    from bnrecal.norms.kinds import DEFAULT_GROUPS
    from bnrecal.optimisers import LARC, LARS

    cbn = inspect.signature(CrossIterationBatchNorm2d).parameters
    assert {
        "groups": DEFAULT_GROUPS,
        "window": cbn["window"].default,
        "burn_in": cbn["burn_in"].default,
    } == OF_LAYERS
    optimisers = {"lars": LARS, "larc": LARC}
    assert {
        name: inspect.signature(kind).parameters["adapt"].default for name, kind in optimisers.items()
    } == ADAPTED


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"colour": 1}, "colour: unknown setting 'colour'; valid: norm, groups"),
        ({"norm": "batch"}, f"norm: unknown norm 'batch'; valid: {', '.join(NORMS)}"),
        ({"optimizer": "adam"}, f"optimizer: unknown optimizer 'adam'; valid: {', '.join(OPTIMIZERS)}"),
        ({"norm_batch": 5}, "norm_batch: 5 does not divide batch_size 64"),
        ({"norm_batch": 4, "physical_batch": 6}, "norm_batch: 4 does not divide physical_batch 6"),
        ({"physical_batch": 65}, "physical_batch: 65 is more than the 64 images of a step"),
        ({"warmup": 1, "warmup_fraction": 0.1}, "warmup, warmup_fraction"),
        ({"warmup": 10}, "warmup: 10 epochs of 10"),
        ({"nesterov": True, "momentum": 0}, "nesterov: needs a momentum"),
        ({"lr": -1}, "lr: '-1'; allowed: above 0"),
        ({"lr": float("nan")}, "lr:"),
        ({"precision": "half"}, "precision: 'half'; allowed: 'float32', 'bfloat16' or 'float16'"),
        ({"groups": 4}, "groups: changes nothing with norm bn; norm is to be one of gn"),
        ({"optimizer": "adamw", "nesterov": True}, "nesterov: changes nothing with optimizer adamw"),
        ({"lr_batch": 64}, "lr_batch: changes nothing with lr_scaling none"),
    ],
)
def test_what_does_not_fit_is_one_line(settings: dict[str, Any], message: str) -> None:
    """The place, the value, and what is allowed; the same through a grid."""
    for made in (make_recipe, recipes_of):
        with pytest.raises(BnrecalError) as caught:
            made(settings)  # type: ignore[operator]
        assert str(caught.value).startswith(message)
        assert "\n" not in str(caught.value)


def test_a_grid_is_the_product_the_last_field_fastest() -> None:
    """Lists are several values; `betas` is a pair; a scalar is one value."""
    found = recipes_of({"norm_batch": [4, 32], "batch_size": 32, "lr": 0.05, "seed": [0, 1]})
    assert [(r.norm_batch, r.seed) for r in found] == [(4, 0), (4, 1), (32, 0), (32, 1)]
    assert [r.betas for r in recipes_of({"optimizer": "adamw", "betas": [0.8, 0.9]})] == [(0.8, 0.9)]
    many = recipes_of({"optimizer": "adamw", "betas": [[0.8, 0.9], [0.9, 0.99]]})
    assert [r.betas for r in many] == [(0.8, 0.9), (0.9, 0.99)]


def test_a_grid_has_each_recipe_once() -> None:
    """Norms that see one image at a time are trained once, whatever the norm batches."""
    found = recipes_of({"norm": ["bn", "gn"], "norm_batch": [2, 4, 8]})
    assert [(r.norm, r.norm_batch) for r in found] == [("bn", 2), ("bn", 4), ("bn", 8), ("gn", None)]
    assert [label(r, varied_fields(found)) for r in found] == [
        "bn, norm batch 2",
        "bn, norm batch 4",
        "bn, norm batch 8",
        "gn",
    ]


def test_labels_say_what_varies() -> None:
    """Each field in words; nothing of what the recipe does not heed."""
    recipe = Recipe(norm="cbn", norm_batch=4, optimizer="lars", clip_norm=5, nesterov=True)
    fields = ("norm", "norm_batch", "optimizer", "clip_norm", "nesterov", "seed", "betas")
    assert label(recipe, fields) == "cbn, norm batch 4, lars, nesterov, clip norm 5, seed 0"
    assert label(Recipe(), ("norm_batch", "clip_norm", "nesterov", "trainable", "augment")) == (
        "whole batch, no nesterov, no clipping, augment none, trainable all"
    )
    assert label(Recipe(), ()) == "as usual"


@settings(deadline=None)
@given(
    norms=st.lists(st.sampled_from(list(NORMS)), min_size=1, max_size=3),
    seeds=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    rates=st.lists(st.floats(1e-4, 1), min_size=1, max_size=3),
)
def test_a_grid_holds_every_combination_and_tells_them_apart(
    norms: list[str], seeds: list[int], rates: list[float]
) -> None:
    """As many as there are different combinations, with as many keys."""
    found = recipes_of({"norm": norms, "lr": rates, "seed": seeds})
    assert len(found) == len(set(norms)) * len(set(seeds)) * len(set(rates))
    assert len({r.key for r in found}) == len(found)
