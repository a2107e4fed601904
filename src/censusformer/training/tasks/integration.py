"""Integration: embeddings from which the batch (a study, a donor, an assay) can no longer be told.

As scGPT offers it (Cui et al. 2024): an adversary that guesses the batch of a cell and whose gradient is reversed
(Ganin et al. 2016), and normalisation by batch, here of the embeddings and by option. A shift for each batch has to
rebuild the embedding from the integrated one, so that nothing but the batch is lost.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from censusformer.errors import InputError
from censusformer.training.tasks import Targets, Task

FEWEST = 10  # cells of a batch


class Integrated(NamedTuple):
    """What the head makes of B cells: (B, d) embeddings, (B, d) what is lost of them, (B, batches) guesses."""

    vectors: Tensor
    lost: Tensor
    guesses: Tensor


class _Reversed(torch.autograd.Function):
    """The input itself; its gradient turned round."""

    @staticmethod
    def forward(ctx, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None


class Integrator(nn.Module):
    """Moves embeddings so that an adversary cannot tell their batch; begins as the identity.

    Parameters
    ----------
    d_model, n_batches
        Width, and number of batches.
    strength
        Of the adversary's gradient against what is lost.
    """

    def __init__(self, d_model: int, n_batches: int, strength: float) -> None:
        super().__init__()
        self.strength = strength
        self.move = nn.Sequential(nn.Linear(d_model, d_model), nn.ReLU(), nn.Linear(d_model, d_model))
        self.of_batch = nn.Embedding(n_batches, d_model)
        self.adversary = nn.Sequential(
            *(nn.Linear(d_model, d_model), nn.LeakyReLU(), nn.LayerNorm(d_model)),
            *(nn.Linear(d_model, d_model), nn.LeakyReLU(), nn.LayerNorm(d_model)),
            nn.Linear(d_model, n_batches),
        )
        for parameter in (self.move[2].weight, self.move[2].bias, self.of_batch.weight):
            nn.init.zeros_(parameter)

    def forward(self, vectors: Tensor, batches: Tensor) -> Integrated:
        """(B, d) and int64 (B,) -> integrated embeddings, and what the loss needs."""
        moved = vectors + self.move(vectors)
        guesses = self.adversary(_Reversed.apply(moved, self.strength))
        return Integrated(moved, moved + self.of_batch(batches) - vectors, guesses)


def targets(labels: np.ndarray) -> Targets:
    """Batches by their sorted names.

    Raises
    ------
    InputError
        Where there is one batch alone, or one of fewer than 10 cells.
    """
    batches, values, counts = np.unique(labels.astype(str), return_inverse=True, return_counts=True)
    names = batches.tolist()
    if len(names) < 2:
        raise InputError(f"all cells are of the batch {names[0]!r}: there is nothing to integrate")
    if counts.min() < FEWEST:
        rare = int(np.argmin(counts))
        raise InputError(f"the batch {names[rare]!r} has {counts[rare]} cells: {FEWEST} at least are needed")
    return Targets(values.astype(np.int64), {"batches": names, "strength": 1.0})


def head(d_model: int, about: Mapping[str, Any]) -> nn.Module:
    """The integrator of these batches."""
    return Integrator(d_model, len(about["batches"]), about["strength"])


def loss(output: Integrated, batches: Tensor) -> Tensor:
    """What is lost of the embeddings, and the adversary's cross entropy, whose gradient comes back reversed."""
    return output.lost.square().mean() + cross_entropy(output.guesses, batches)


def scores(vectors: np.ndarray, batches: np.ndarray) -> dict[str, float]:
    """Share of the variance of embeddings that lies between batches: 0 where their means agree."""
    centred = vectors - vectors.mean(0)
    means = np.stack([centred[batches == k].mean(0) for k in np.unique(batches)])
    weights = np.unique(batches, return_counts=True)[1][:, None]
    return {"between_batches": float((means**2 * weights).sum() / (centred**2).sum())}


def normalised_by(vectors: np.ndarray, batches: np.ndarray) -> np.ndarray:
    """Centre and scale the embeddings of each batch by its own mean and deviation: domain-specific normalisation.

    Parameters
    ----------
    vectors, batches
        float32 (n, d), int64 (n,).
    """
    out = np.empty_like(vectors)
    for k in np.unique(batches):
        here = batches == k
        out[here] = (vectors[here] - vectors[here].mean(0)) / (vectors[here].std(0) + 1e-6)
    return out


TASK = Task("embeddings without the batch", targets, head, loss, scores, conditional=True, step="integrate")
