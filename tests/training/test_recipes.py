"""Recipes: learning rates, optimisers, the gene's mean bin."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from small_shards import cells_of

from censusformer.errors import InputError
from censusformer.model import ModelConfig, Pretrainer
from censusformer.training.recipes import RECIPES, build_optimizer, learning_rate, mean_bins, recipe_of


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


def test_the_reference_recipe_is_adam_as_published():
    model = torch.nn.Linear(2, 2)
    optimizer = build_optimizer(model, RECIPES["reference"], 1e-4)
    assert type(optimizer) is torch.optim.Adam
    assert optimizer.defaults["eps"] == 1e-4
    assert optimizer.defaults["weight_decay"] == 0


def test_an_unknown_recipe_lists_the_known():
    with pytest.raises(InputError, match="reference or fast"):
        recipe_of("quick")


def test_mean_bins():
    cells = cells_of([[0, 2], [2]], [[10, 20], [30]])
    np.testing.assert_allclose(mean_bins(cells, 4), [10, 20, 25, 20])
