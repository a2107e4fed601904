"""Embeddings of whole cells: what the encoder makes of `<cls>`, or of all tokens on average."""

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from censusformer.model import Encoder, Packed
from censusformer.tokens.cells import Cells
from censusformer.training.batches import batches_by_tokens
from censusformer.training.predict import BATCH_TOKENS

Pooling = Literal["cls", "mean"]
POOLINGS: tuple[Pooling, ...] = ("cls", "mean")


def embed_cells(
    model: Encoder,
    cells: Cells,
    pooling: Pooling = "cls",
    *,
    batch_tokens: int = BATCH_TOKENS,
    between: Callable[[], None] | None = None,
) -> np.ndarray:
    """Embed cells, nothing masked, without dropout.

    A cell attends to itself alone: other cells, their order and the size of batches change its embedding by rounding at
    most. A cell without genes is embedded as `<cls>` alone.

    Parameters
    ----------
    model
        An encoder, pretrained or fine-tuned; it runs where its parameters are, and is left in the mode that it had.
    cells
        Cells of the model's vocabulary.
    pooling
        `cls`: the output at `<cls>`, from which GEPC predicts, so that pretraining made it hold the cell; `mean`: the
        mean output over all tokens, `<cls>` among them (scGPT's `avg-pool`, Cui et al. 2024, without padding).
    batch_tokens
        Tokens of a batch; a cell longer than that is a batch of its own.
    between
        Called after each batch.

    Returns
    -------
    float32 (n_cells, d_model), row by row the cells as they are given.

    Raises
    ------
    ValueError
        Where `pooling` is neither, or a gene is none of the vocabulary.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling {pooling!r}: 'cls' or 'mean'")
    if cells.n_tokens and cells.genes.max() >= model.config.n_genes:
        raise ValueError(f"gene {cells.genes.max()} is none of the model's {model.config.n_genes}")
    out = np.empty((len(cells), model.config.d_model), np.float32)
    start, training = 0, model.training
    model.eval()
    try:
        for packed in _batches(model, cells, batch_tokens):
            vectors = _pooled(model, packed, pooling)
            out[start : start + len(vectors)] = vectors.cpu().numpy()
            start += len(vectors)
            if between is not None:
                between()
    finally:
        model.train(training)
    return out


def _batches(model: Encoder, cells: Cells, batch_tokens: int) -> Iterator[Packed]:
    device = next(model.parameters()).device
    nothing = np.zeros(cells.n_tokens, bool)
    for batch in batches_by_tokens(cells, nothing, model.config.n_genes, batch_tokens):
        yield batch.to(device).packed


@torch.inference_mode()
def _pooled(model: Encoder, packed: Packed, pooling: Pooling) -> Tensor:
    """Embeddings of a batch of B cells, float32 (B, d)."""
    tokens = model.encode(packed).tokens.float()
    if pooling == "cls":
        return tokens.index_select(0, packed.cu_seqlens[:-1])
    return torch.segment_reduce(tokens, "mean", lengths=packed.cu_seqlens.diff().long())
