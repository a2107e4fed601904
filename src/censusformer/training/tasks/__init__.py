"""Tasks: other heads on the pretrained encoder. A module here that defines `TASK` is a task, by its name.

To add one, write `mine.py` with a `TASK = Task(...)`, here or in a folder that the environment variable
`CENSUSFORMER_TASKS` names; nothing else names it. `annotation.py` is the example; docs/finetune.md explains each part.
"""

import importlib
import os
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from censusformer.errors import InputError
from censusformer.model import Encoder, Packed

__path__ = [*__path__, *filter(None, os.environ.get("CENSUSFORMER_TASKS", "").split(os.pathsep))]


class TaskBatch(NamedTuple):
    """Some labelled cells.

    Parameters
    ----------
    packed
        Their tokens, `<cls>` first in each; None where the encoder is frozen and `vectors` stand for them.
    vectors
        float32 (B, d), their embeddings by the frozen encoder; None where it is trained, too.
    targets
        (B, ...), what the task's `targets` made of their labels.
    """

    packed: Packed | None
    vectors: Tensor | None
    targets: Tensor

    def embedded(self, encoder: Encoder) -> Tensor:
        """Embeddings of the cells, (B, d): those at hand, else the output at `<cls>`."""
        if self.vectors is not None:
            return self.vectors
        return encoder.encode(self.packed).tokens.index_select(0, self.packed.cu_seqlens[:-1])


@dataclass(frozen=True)
class Targets:
    """Labels as a task sees them.

    Parameters
    ----------
    values
        (n, ...), one row a cell: int64 classes, float32 numbers.
    about
        Plain values that a fine-tuned model needs to know of them, such as the names of classes.
    """

    values: np.ndarray
    about: Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """A task on single cells.

    Parameters
    ----------
    summary
        What it predicts, in a few words.
    targets
        Makes targets of the labels of all cells (text, (n,)); refuses labels that nothing can be learned from.
    head
        Builds the head from the width of embeddings and `Targets.about`.
    loss
        Mean loss of the head's output, (B, k), against targets, (B, ...).
    scores
        Scores of outputs, (n, k), against targets, as arrays, by name; the first is the one that counts.
    conditional
        Whether the head takes the targets along with the embeddings, as one does that takes the batch out of them; its
        output is then a tuple, with the new embeddings first.
    step
        The subcommand that does it, where it is not `finetune`, whose labels are of single cells.
    """

    summary: str
    targets: Callable[[np.ndarray], Targets]
    head: Callable[[int, Mapping[str, Any]], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    scores: Callable[[np.ndarray, np.ndarray], dict[str, float]]
    conditional: bool = False
    step: str = "finetune"


def names() -> list[str]:
    """Names of all tasks."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def task_of(name: str) -> Task:
    """The task of this name, or a refusal."""
    if name not in names():
        raise InputError(f"task {name!r}: one of {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}").TASK
