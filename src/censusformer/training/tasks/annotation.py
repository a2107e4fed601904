"""Annotation: the type of each cell, or any other label that single cells have."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from censusformer.errors import InputError
from censusformer.training.tasks import Targets, Task

FEWEST = 2  # cells of a label: of fewer nothing can be learned and measured


def targets(labels: np.ndarray) -> Targets:
    """Classes by the sorted names of labels.

    Raises
    ------
    InputError
        Where there is one label alone, or one that a single cell has.
    """
    classes, values, counts = np.unique(labels.astype(str), return_inverse=True, return_counts=True)
    names = classes.tolist()
    if len(names) < 2:
        raise InputError(f"all cells have the label {names[0]!r}: two labels at least are needed")
    if counts.min() < FEWEST:
        rare = names[int(np.argmin(counts))]
        raise InputError(f"the label {rare!r} is seen once, so nothing can be learned of it: merge it with another, or "
                         f"leave it out (--ignore {rare!r})")  # fmt: skip
    return Targets(values.astype(np.int64), {"classes": names})


def head(d_model: int, about: Mapping[str, Any]) -> nn.Module:
    """One linear layer that starts at zero, embeddings -> logits of the classes: logistic regression, stopped early."""
    layer = nn.Linear(d_model, len(about["classes"]))
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def loss(logits: Tensor, values: Tensor) -> Tensor:
    """Mean cross entropy."""
    return cross_entropy(logits, values)


def scores(logits: np.ndarray, values: np.ndarray) -> dict[str, float]:
    """Macro-F1 over the classes that occur, and accuracy."""
    predicted = logits.argmax(1)
    f1 = []
    for k in np.unique(values):
        hits = np.count_nonzero((predicted == k) & (values == k))
        f1.append(2 * hits / (np.count_nonzero(predicted == k) + np.count_nonzero(values == k)))
    return {"macro_f1": float(np.mean(f1)), "accuracy": float(np.mean(predicted == values))}


TASK = Task("a label of each cell, such as its type", targets, head, loss, scores)
