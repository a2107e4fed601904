"""Recipes: what is optimised how, by name."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from censusformer.errors import InputError
from censusformer.model import Pretrainer


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
    base_width
        The width that `train.lr` is meant for: the rates of matrices follow from it (`rate_scale`), and wider models
        start with smaller weights in GEPC's W. None: the same for all widths.
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
    base_width: int | None = None

    @property
    def depends_on_length(self) -> bool:
        """Whether the rate at a step depends on how many are to come: such a run cannot be made longer."""
        return self.schedule == "cosine"


RECIPES = {
    # scGPT's tutorial and the reference run: https://github.com/bowang-lab/scGPT, sun770311/scGPT-pretrain
    "reference": Recipe("adam", norm="post", gene_bias=False, schedule="step", decay=0.9, eps=1e-4),
    "fast": Recipe(
        "adamw",
        norm="pre",
        gene_bias=True,
        schedule="cosine",
        decay=0.02,
        warmup=0.05,
        weight_decay=0.01,
        base_width=64,
    ),
}


def recipe_of(name: str) -> Recipe:
    """Return the recipe of this name, or refuse."""
    if name not in RECIPES:
        raise InputError(f"train.recipe {name!r}: {' or '.join(RECIPES)}")
    return RECIPES[name]


def build_optimizer(
    model: Pretrainer, recipe: Recipe, lr: float, weight_decay: float | None = None
) -> torch.optim.Optimizer:
    """Build the optimiser; each group's `scale` multiplies the rate of the step.

    Fused, since a step on a CPU has few operations to hide behind. `weight_decay` stands in for the recipe's own; with
    any, the recipe's Adam becomes AdamW, which without is the same.
    """
    strength = recipe.weight_decay if weight_decay is None else weight_decay
    how = {"lr": lr, "betas": recipe.betas, "eps": recipe.eps, "fused": True}
    if recipe.optimizer == "adam" and not strength:
        return torch.optim.Adam([{"params": list(model.parameters()), "scale": 1.0}], **how)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        decay = strength if parameter.ndim >= 2 else 0.0
        groups.setdefault((rate_scale(name, parameter, recipe.base_width), decay), []).append(parameter)
    listed = [{"params": ps, "scale": scale, "weight_decay": decay} for (scale, decay), ps in groups.items()]
    return torch.optim.AdamW(listed, **how)


def rate_scale(name: str, parameter: nn.Parameter, base_width: int | None) -> float:
    """Scale the rate of a parameter with the model's width, so that one `train.lr` serves all widths.

    A step of Adam moves each weight by the rate, whatever the gradient; a sum over d inputs so moves by d times that.
    Matrices from d inputs therefore take base_width / d of the rate (Yang et al. 2022, "Tensor Programs V"), and GEPC's
    W, whose output is summed over d once more, takes the square of that. Vectors, embeddings and the layer that reads
    the bin keep the rate.
    """
    if base_width is None or parameter.ndim < 2 or name.startswith(("encoder.", "value_encoder.linear1.")):
        return 1.0
    share = base_width / parameter.shape[1]
    return share**2 if name == "mvc_decoder.W.weight" else share


def learning_rate(recipe: Recipe, lr: float, step: int, steps_per_epoch: int, total_steps: int) -> float:
    """Return the rate of a step (from 0): a function of the step alone, so that resuming needs no scheduler's state."""
    if recipe.schedule == "step":
        return lr * recipe.decay ** (step // steps_per_epoch)
    warmup = max(1, round(recipe.warmup * total_steps))
    if step < warmup:
        return lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, total_steps - warmup)
    return lr * (recipe.decay + (1 - recipe.decay) * 0.5 * (1 + math.cos(math.pi * progress)))
