"""Recipes: learning rates, optimisers, the gene's mean bin."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from small_shards import cells_of

from censusformer.errors import InputError
from censusformer.model import ModelConfig, Pretrainer, squared_errors
from censusformer.training.batches import pack
from censusformer.training.recipes import RECIPES, build_optimizer, learning_rate, recipe_of
from censusformer.training.window import gene_sums, mean_bins


def test_the_reference_recipe_steps_down_after_each_epoch():
    rates = [learning_rate(RECIPES["reference"], 1e-4, step, 10, 60) for step in (0, 9, 10, 59)]
    assert rates == pytest.approx([1e-4, 1e-4, 0.9e-4, 0.9**5 * 1e-4])


def test_the_fast_recipe_warms_up_and_falls():
    recipe = RECIPES["fast"]
    rates = [learning_rate(recipe, 2e-3, step, 100, 600) for step in range(600)]
    top = int(np.argmax(rates))
    assert max(rates) == pytest.approx(2e-3)
    assert 0 < rates[0] < 2e-3 / 10
    assert top < 60
    assert all(a <= b for a, b in pairwise(rates[: top + 1]))
    assert all(a >= b for a, b in pairwise(rates[top:]))
    assert rates[-1] < 0.05 * 2e-3


@pytest.mark.parametrize("total", [1, 2])
def test_a_trial_of_a_step_or_two_has_a_rate(total):
    rates = [learning_rate(RECIPES["fast"], 1.0, step, 100, total) for step in range(total)]
    assert all(0 < rate <= 1 for rate in rates)


def test_every_parameter_is_optimised_once():
    for recipe in RECIPES.values():
        model = Pretrainer(ModelConfig(20, 1, 8, 2, 8, norm=recipe.norm, gene_bias=recipe.gene_bias))
        parameters = [p for group in build_optimizer(model, recipe, 1e-3).param_groups for p in group["params"]]
        assert len(parameters) == len(set(parameters)) == len(list(model.parameters()))


def test_one_rate_serves_all_widths():
    """A step of `fast` moves what both heads predict by about as much at width 32 as at 256."""
    moved = {}
    for width in (32, 64, 256):
        torch.manual_seed(0)
        model = Pretrainer(ModelConfig(20, 2, width, 4, width, 0.0, "pre", gene_bias=True))
        model.start_at_means(np.full(20, 25.0), min(1, 64 / width))
        optimizer = build_optimizer(model, RECIPES["fast"], 2e-3)
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * group["scale"]
        batch = pack(cells_of([range(20)], [range(1, 21)]), np.ones(20, bool), 20).batch(0, 1)
        before = model(batch.packed, batch.positions, batch.cells)
        squared_errors(before, batch.targets).sum().backward()
        optimizer.step()
        after = model(batch.packed, batch.positions, batch.cells)
        moved[width] = [(b - a).detach().abs().mean().item() for a, b in zip(before, after, strict=True)]
    for head in (0, 1):
        sizes = [moved[width][head] for width in moved]
        assert max(sizes) < 3 * min(sizes)


def test_the_reference_recipe_is_adam_as_published():
    model = Pretrainer(ModelConfig(20, 1, 8, 2, 8))
    optimizer = build_optimizer(model, RECIPES["reference"], 1e-4)
    assert type(optimizer) is torch.optim.Adam
    assert optimizer.defaults["eps"] == 1e-4
    assert optimizer.defaults["weight_decay"] == 0


def test_an_unknown_recipe_lists_the_known():
    with pytest.raises(InputError, match="reference or fast"):
        recipe_of("quick")


def test_mean_bins():
    cells = cells_of([[0, 2], [2]], [[10, 20], [30]])
    np.testing.assert_allclose(mean_bins(*gene_sums(cells, 4)), [10, 20, 25, 20])
