"""Recipes: what is optimised how, by name."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from censusformer.errors import InputError
from censusformer.tokens.cells import Cells


@dataclass(frozen=True)
class Recipe:
    """One way to train.

    Parameters
    ----------
    optimizer
        `adam`, or `adamw` with decoupled weight decay on matrices.
    eps, betas, weight_decay
        As the optimiser takes them.
    norm, gene_bias
        Of the `ModelConfig`.
    schedule
        `step`: the rate times `decay` after each epoch; `cosine`: linear warm-up over `warmup` of all steps, then a
        half cosine down to `decay` of the highest rate.
    clip
        Highest norm of the gradient.
    """

    optimizer: Literal["adam", "adamw"]
    norm: Literal["post", "pre"]
    gene_bias: bool
    schedule: Literal["step", "cosine"]
    decay: float
    warmup: float = 0.0
    weight_decay: float = 0.0
    eps: float = 1e-8
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 1.0

    @property
    def depends_on_length(self) -> bool:
        """Whether the rate at a step depends on how many are to come: such a run cannot be made longer."""
        return self.schedule == "cosine"


RECIPES = {
    # scGPT's tutorial and the reference run: https://github.com/bowang-lab/scGPT, sun770311/scGPT-pretrain
    "reference": Recipe("adam", norm="post", gene_bias=False, schedule="step", decay=0.9, eps=1e-4),
    "fast": Recipe("adamw", norm="pre", gene_bias=True, schedule="cosine", decay=0.02, warmup=0.05, weight_decay=0.01),
}


def recipe_of(name: str) -> Recipe:
    """Return the recipe of this name, or refuse."""
    if name not in RECIPES:
        raise InputError(f"train.recipe {name!r}: {' or '.join(RECIPES)}")
    return RECIPES[name]


def build_optimizer(model: nn.Module, recipe: Recipe, lr: float) -> torch.optim.Optimizer:
    """Build the optimiser over all parameters; fused, since a step on a CPU has few operations to hide behind."""
    if recipe.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=lr, betas=recipe.betas, eps=recipe.eps, fused=True)
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=recipe.betas, eps=recipe.eps, fused=True)


def learning_rate(recipe: Recipe, lr: float, step: int, steps_per_epoch: int, total_steps: int) -> float:
    """Return the rate of a step (from 0): a function of the step alone, so that resuming needs no scheduler's state."""
    if recipe.schedule == "step":
        return lr * recipe.decay ** (step // steps_per_epoch)
    warmup = max(1, round(recipe.warmup * total_steps))
    if step < warmup:
        return lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, total_steps - warmup)
    return lr * (recipe.decay + (1 - recipe.decay) * 0.5 * (1 + math.cos(math.pi * progress)))


def mean_bins(cells: Cells, n_genes: int) -> np.ndarray:
    """Mean bin of each gene where it is expressed, float64 (n_genes,); a gene never seen gets the mean of all."""
    count = np.bincount(cells.genes, minlength=n_genes)
    total = np.bincount(cells.genes, weights=cells.values, minlength=n_genes)
    return np.where(count > 0, total / np.maximum(count, 1), total.sum() / max(1, count.sum()))
