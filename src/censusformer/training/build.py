"""A new model, and the seeds of what PyTorch draws."""

import torch

from censusformer.hashing import draw, word
from censusformer.model import ModelConfig, Pretrainer
from censusformer.training.data import Data
from censusformer.training.recipes import recipe_of
from censusformer.training.settings import Settings

_WEIGHTS = word("initial weights")


def seed_torch(*words: int) -> None:
    """Seed PyTorch's own draws with the hash of some words."""
    torch.manual_seed(int(draw(*words)[0]))


def build_model(settings: Settings, data: Data) -> Pretrainer:
    """Build a new model; its weights depend on `train.seed`, its gene bias on the training cells."""
    recipe, execution = recipe_of(settings.train.recipe), settings.execution
    config = ModelConfig(data.vocabulary.n_genes, **settings.model, norm=recipe.norm, gene_bias=recipe.gene_bias)
    seed_torch(_WEIGHTS, settings.train.seed)
    model = Pretrainer(config)
    share = 1.0 if recipe.base_width is None else min(1.0, recipe.base_width / config.d_model)
    model.start_at_means(data.mean_bins, share)
    model.set_attention(execution.attention)
    return model
