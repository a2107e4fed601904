"""Response: how the mean expression of cells like this one shifts under a stimulation."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from censusformer.training.tasks import Targets, Task


def targets(shifts: np.ndarray) -> Targets:
    """Targets of control cells: the shift, float (n, n_genes), of the group that each belongs to."""
    return Targets(shifts.astype(np.float32), {"mean": shifts.mean(0).astype(float).tolist()})


def head(d_model: int, about: Mapping[str, Any]) -> nn.Module:
    """One linear layer, embeddings -> shifts; it begins at the mean shift, whatever the cell."""
    layer = nn.Linear(d_model, len(about["mean"]))
    nn.init.zeros_(layer.weight)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor(about["mean"]))
    return layer


def loss(shifts: Tensor, values: Tensor) -> Tensor:
    """Squared error, summed over genes, mean over cells."""
    return (shifts - values).square().sum(1).mean()


def scores(shifts: np.ndarray, values: np.ndarray) -> dict[str, float]:
    """Mean squared error over genes and cells."""
    return {"mse": float(np.mean((shifts - values) ** 2))}


TASK = Task("how expression shifts under a stimulation", targets, head, loss, scores, step="response")
