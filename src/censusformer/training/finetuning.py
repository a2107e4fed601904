"""Fine-tuning: a task's head on the encoder, which stays as it is (`frozen`) or is trained along (`full`).

How long is chosen on persons held out; then all cells are trained on for as many epochs. Steps depend on (seed, epoch,
cell) alone, as in pretraining.
"""

import copy
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from censusformer.errors import InputError
from censusformer.hashing import draw, word
from censusformer.model import Pretrainer
from censusformer.tokens.cells import Cells, concat, sequences
from censusformer.training.batches import unasked
from censusformer.training.embedding import embed_cells
from censusformer.training.tasks import Task, TaskBatch
from censusformer.training.window import epoch_order

logger = logging.getLogger("censusformer")

MODES = ("frozen", "full")
_SEED = word("censusformer finetune")
ENCODER_SHARE = 0.1  # of the head's learning rate, for the encoder's weights


@dataclass(frozen=True)
class FinetuneSettings:
    """How to fine-tune.

    Parameters
    ----------
    mode
        `frozen`: the head alone, on embeddings that are made once; `full`: the encoder, too.
    epochs
        At most.
    batch_size
        Cells of a step.
    lr
        Learning rate of the head; the encoder's is a tenth of it.
    weight_decay
        Of AdamW.
    patience
        Epochs without a lower loss on held-out persons after which it stops.
    seed
        Of the head's first weights, the order of cells and dropout.
    """

    mode: str = "frozen"
    epochs: int = 100
    batch_size: int = 32
    lr: float = 3e-3
    weight_decay: float = 0.01
    patience: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"mode {self.mode!r}: {' or '.join(MODES)}")
        for name in ("epochs", "batch_size", "patience"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: must be at least 1")
        if not 0 < self.lr < float("inf") or not self.weight_decay >= 0:
            raise InputError(f"lr {self.lr} must be over 0, weight_decay {self.weight_decay} at least 0")


@dataclass(frozen=True)
class Examples:
    """Labelled cells.

    Parameters
    ----------
    cells
        Tokenised.
    targets
        (n, ...), see `tasks.Targets`.
    vectors
        float32 (n, d): their embeddings, for a frozen encoder.
    """

    cells: Cells
    targets: np.ndarray
    vectors: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.cells)

    def take(self, rows: np.ndarray) -> "Examples":
        """Some of them: a bool mask or positions."""
        vectors = None if self.vectors is None else self.vectors[rows]
        return Examples(self.cells.take(rows), self.targets[rows], vectors)

    def batch(self, rows: np.ndarray, cls: int, device: torch.device) -> TaskBatch:
        """One batch, with `<cls>` before each cell."""
        targets = torch.from_numpy(self.targets[rows]).to(device)
        if self.vectors is not None:
            return TaskBatch(None, torch.from_numpy(self.vectors[rows]).to(device), targets)
        return TaskBatch(unasked(sequences(self.cells, rows, cls)).to(device).packed, None, targets)


class Scaled(nn.Module):
    """A head on embeddings that are centred and scaled first, by what the training cells show.

    Parameters
    ----------
    head
        The task's.
    mean, std
        float32 (d,).
    """

    def __init__(self, head: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.head = head
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, vectors: Tensor, *targets: Tensor) -> Tensor | tuple[Tensor, ...]:
        """(B, d) -> (B, k), or what a conditional head makes of them and of their targets."""
        return self.head((vectors - self.mean) / self.std, *targets)


@dataclass(frozen=True)
class Job:
    """What to learn, and how.

    Parameters
    ----------
    task, about
        The task, and what its targets say of themselves.
    settings
        How.
    """

    task: Task
    about: Mapping[str, Any]
    settings: FinetuneSettings

    def output(self, encoder: Pretrainer, head: nn.Module, batch: TaskBatch) -> Tensor | tuple[Tensor, ...]:
        """What the head says of a batch."""
        seen = (batch.targets,) if self.task.conditional else ()
        return head(batch.embedded(encoder).float(), *seen)


@dataclass(frozen=True)
class Finetuned:
    """An encoder and its head.

    Parameters
    ----------
    encoder
        The pretrained one where it was frozen, else a copy that was trained.
    head
        The task's, behind the scaling of embeddings.
    epochs
        How long it was trained.
    losses
        Loss on held-out cells after each epoch, where there were any.
    """

    encoder: Pretrainer
    head: nn.Module
    epochs: int
    losses: tuple[float, ...] = ()

    def outputs(self, job: Job, examples: Examples) -> np.ndarray:
        """The head's outputs for all cells in their order, float32 (n, k): of a tuple the first."""
        self.encoder.eval()
        self.head.eval()
        found = []
        with torch.inference_mode():
            for batch in _in_order(examples, self.encoder):
                output = job.output(self.encoder, self.head, batch)
                found.append((output[0] if isinstance(output, tuple) else output).cpu())
        return torch.cat(found).numpy()


def together(one: Examples, other: Examples) -> Examples:
    """Both, one after the other."""
    vectors = None if one.vectors is None else np.concatenate([one.vectors, other.vectors])
    return Examples(concat([one.cells, other.cells]), np.concatenate([one.targets, other.targets]), vectors)


def with_vectors(model: Pretrainer, cells: Cells, targets: np.ndarray, settings: FinetuneSettings) -> Examples:
    """Examples for either mode: a frozen encoder embeds all cells once."""
    return Examples(cells, targets, embed_cells(model, cells) if settings.mode == "frozen" else None)


def fit(model: Pretrainer, job: Job, train: Examples, valid: Examples | None = None) -> Finetuned:
    """Train a head, and in `full` mode the encoder.

    Parameters
    ----------
    model
        The pretrained model; left as it is.
    job
        What to learn, and how.
    train
        Cells to learn from.
    valid
        Cells of other persons, on which it is chosen when to stop; None: all of `settings.epochs`.

    Returns
    -------
    What it was after the epoch of the lowest loss on `valid`.

    Raises
    ------
    InputError
        Where the loss is not finite.
    """
    settings = job.settings
    encoder = copy.deepcopy(model) if settings.mode == "full" else model
    head = _head(model, job, train)
    optimizer = _optimizer(encoder, head, settings)
    best, losses = None, []
    for epoch in range(settings.epochs):
        _epoch(Finetuned(encoder, head, epoch), job, train, optimizer)
        if valid is None:
            continue
        losses.append(_loss_on(encoder, head, job, valid))
        if losses[-1] == min(losses):
            best = copy.deepcopy((encoder.state_dict() if settings.mode == "full" else None, head.state_dict()))
        elif epoch - int(np.argmin(losses)) >= settings.patience:
            break
    if best is not None:
        head.load_state_dict(best[1])
        if best[0] is not None:
            encoder.load_state_dict(best[0])
    epochs = int(np.argmin(losses)) + 1 if losses else settings.epochs
    return Finetuned(encoder.eval(), head.eval(), epochs, tuple(losses))


def scaled_head(job: Job, d_model: int) -> Scaled:
    """A head of these shapes, to load weights into."""
    return Scaled(job.task.head(d_model, job.about), torch.zeros(d_model), torch.ones(d_model))


def _head(model: Pretrainer, job: Job, train: Examples) -> Scaled:
    vectors = train.vectors if train.vectors is not None else embed_cells(model, train.cells)
    torch.manual_seed(int(draw(_SEED, job.settings.seed)[0]))
    head = scaled_head(job, model.config.d_model)
    head.mean.copy_(torch.from_numpy(vectors.mean(0)))
    head.std.copy_(torch.from_numpy(vectors.std(0) + 1e-6))
    return head.to(next(model.parameters()).device)


def _optimizer(encoder: Pretrainer, head: nn.Module, settings: FinetuneSettings) -> torch.optim.Optimizer:
    groups = [{"params": list(head.parameters()), "lr": settings.lr}]
    if settings.mode == "full":
        groups.append({"params": list(encoder.parameters()), "lr": settings.lr * ENCODER_SHARE})
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay)


def _epoch(state: Finetuned, job: Job, train: Examples, optimizer: torch.optim.Optimizer) -> None:
    """One pass over the training cells, in an order of their own in each epoch."""
    encoder, head, settings, epoch = state.encoder, state.head, job.settings, state.epochs
    order, size = epoch_order(train.cells.cell, settings.seed, epoch), settings.batch_size
    encoder.train(settings.mode == "full")
    head.train()
    for step, start in enumerate(range(0, len(order), size)):
        torch.manual_seed(int(draw(_SEED, settings.seed, epoch, step)[0]))
        batch = train.batch(order[start : start + size], encoder.config.n_genes, next(head.parameters()).device)
        loss = job.task.loss(job.output(encoder, head, batch), batch.targets)
        if not torch.isfinite(loss):
            raise InputError(f"the loss is not finite in epoch {epoch + 1}: lower the learning rate ({settings.lr:g})")
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
        optimizer.step()


@torch.inference_mode()
def _loss_on(encoder: Pretrainer, head: nn.Module, job: Job, examples: Examples) -> float:
    """Mean loss over cells, without dropout."""
    encoder.eval()
    head.eval()
    total = 0.0
    for batch in _in_order(examples, encoder):
        total += float(job.task.loss(job.output(encoder, head, batch), batch.targets)) * len(batch.targets)
    return total / len(examples)


def _in_order(examples: Examples, encoder: Pretrainer, size: int = 256) -> Iterator[TaskBatch]:
    device = next(encoder.parameters()).device
    for start in range(0, len(examples), size):
        rows = np.arange(start, min(start + size, len(examples)))
        yield examples.batch(rows, encoder.config.n_genes, device)
