"""Predictions of a trained model at masked positions."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from censusformer.errors import InputError
from censusformer.model import ModelConfig, Prediction, Pretrainer
from censusformer.tokens.cells import Cells
from censusformer.tokens.vocabulary import Vocabulary
from censusformer.training.batches import batches_by_tokens
from censusformer.training.checkpoints import load

BATCH_TOKENS = 2**13  # on a CPU a batch that stays in its cache is fastest


def load_model(path: str | Path, device: str | torch.device = "cpu") -> tuple[Pretrainer, dict[str, Any]]:
    """Load `best_model.pt`.

    Parameters
    ----------
    path
        The file that `pretrain` wrote.
    device
        Where the model shall run.

    Returns
    -------
    The model in evaluation mode, and what the file says beside the weights: `vocab_sha256`, `vocabulary` (the text of
    `vocab.json`, see `vocabulary_of`), `binning` (method, ties, seed), `n_bins`, `max_length`, `epoch`, `step`, `valid`
    (its validation losses) and `args` (the settings by section).

    Raises
    ------
    InputError
        Where the file is no such model.
    """
    content = load(path, "model")
    model = Pretrainer(ModelConfig(**content.pop("model")))
    model.load_state_dict(content.pop("state_dict"))
    return model.to(device).eval(), content


def vocabulary_of(about: Mapping[str, Any], path: str | Path) -> Vocabulary:
    """Give the vocabulary of a model: from its own file, else from the `vocab.json` beside it.

    Parameters
    ----------
    about
        What `load_model` says of the model.
    path
        The model's file.

    Raises
    ------
    InputError
        Where there is none, or only that of another model.
    """
    path = Path(path)
    if "vocabulary" in about:
        return Vocabulary.from_json(about["vocabulary"], path)
    beside = path.with_name("vocab.json")
    if not beside.is_file():
        raise InputError(f"{path} was written without its vocabulary: put the vocab.json of its run beside it")
    vocabulary = Vocabulary.read(beside)
    if vocabulary.sha256 != about["vocab_sha256"]:
        raise InputError(f"{beside} is the vocabulary of another model than {path}: put that of its run there")
    return vocabulary


def predict_masked(
    model: Pretrainer,
    cells: Cells,
    mask: np.ndarray,
    *,
    batch_tokens: int = BATCH_TOKENS,
    between: Callable[[], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Predict the bins of masked positions, without dropout.

    Parameters
    ----------
    model
        A pretrained model; it runs where its parameters are, and is left in the mode that it had.
    cells
        Cells of the model's vocabulary.
    mask
        bool (T,), True at the M positions to predict.
    batch_tokens
        Tokens of a batch; results do not depend on it but for rounding.
    between
        Called after each batch.

    Returns
    -------
    Predictions from each position (GEP) and from the cell's embedding (GEPC), float32 (M,) each, in token order.
    """
    training = model.training
    model.eval()
    try:
        parts = [_predict(model, batch, between) for batch in _batches(model, cells, mask, batch_tokens)]
    finally:
        model.train(training)
    if not parts:
        return np.empty(0, np.float32), np.empty(0, np.float32)
    gep, gepc = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    return gep, gepc


def _batches(model: Pretrainer, cells: Cells, mask: np.ndarray, batch_tokens: int):
    device = next(model.parameters()).device
    return (batch.to(device) for batch in batches_by_tokens(cells, mask, model.config.n_genes, batch_tokens))


@torch.no_grad()
def _predict(model: Pretrainer, batch, between: Callable[[], None] | None) -> Prediction:
    prediction = model(batch.packed, batch.positions, batch.cells)
    if between is not None:
        between()
    return prediction
