"""Start from another run's model: its weights, and of its vocabulary the genes that both have, by Ensembl id."""

import hashlib
import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from censusformer.errors import InputError
from censusformer.model import Pretrainer
from censusformer.tokens.vocabulary import Vocabulary
from censusformer.training.checkpoints import load
from censusformer.training.predict import vocabulary_of

logger = logging.getLogger("censusformer")

BY_GENE = ("encoder.embedding.weight", "decoder.gene_bias", "mvc_decoder.gene_bias")  # a row a gene, <cls>, <pad>
SHAPE = ("n_layers", "d_model", "n_heads", "d_ff")  # keys of model.*
BY_RECIPE = ("norm", "gene_bias")


@dataclass(frozen=True)
class Start:
    """What a run started from.

    Parameters
    ----------
    sha256
        Of the model's file.
    shared, new, left
        Genes that both vocabularies have, that only the new one has, and that only the old one had.
    """

    sha256: str
    shared: int
    new: int
    left: int


@cache
def digest_of(path: str) -> str:
    """SHA-256 of the file that `train.init_from` names: what identifies a start, wherever the file lies."""
    if not Path(path).is_file():
        raise InputError(f"train.init_from: {path} is missing; give the best_model.pt of another run")
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def start_from(path: str | None, model: Pretrainer, vocabulary: Vocabulary, n_bins: int) -> Start | None:
    """Put the weights of another run's `best_model.pt` into a new model.

    A gene that the other vocabulary lacks keeps what the new model was initialised with.

    Parameters
    ----------
    path
        The file; None: nothing is done.
    model
        A new model of `vocabulary`; it is changed in place.
    n_bins
        Bins of the new run's shards: the value encoder knows no others.

    Raises
    ------
    InputError
        Where the file is no such model, its shape or bins are others, or no gene is in both vocabularies.
    """
    if path is None:
        return None
    digest = digest_of(path)
    content = load(path, "model")
    old = vocabulary_of(content, path)
    _refuse_other_shape(path, content, model, n_bins)
    row = {gene: i for i, gene in enumerate(old.genes)}
    both = [(i, row[gene]) for i, gene in enumerate(vocabulary.genes) if gene in row]
    if not both:
        raise InputError(f"train.init_from {path}: no gene of the vocabulary is one of its genes")
    pairs = torch.tensor([*both, (vocabulary.cls, old.cls), (vocabulary.pad, old.pad)])
    model.load_state_dict(_merged(model.state_dict(), content["state_dict"], pairs))
    start = Start(digest, len(both), vocabulary.n_genes - len(both), old.n_genes - len(both))
    logger.info("starting from %s: %s of its genes, %s new ones", path, f"{start.shared:,}", f"{start.new:,}")
    return start


def _merged(new: dict, old: dict, pairs: torch.Tensor) -> dict:
    """The old weights; in tables by gene those rows of the old one that both have."""
    merged = dict(old)
    for name in BY_GENE:
        if name in new:
            merged[name] = new[name].clone()
            merged[name][pairs[:, 0]] = old[name][pairs[:, 1]]
    return merged


def _refuse_other_shape(path: str, content: dict[str, Any], model: Pretrainer, n_bins: int) -> None:
    old, new = content["model"], model.config.to_dict()
    other = [f"model.{key} is {old[key]} there, {new[key]} here" for key in SHAPE if old[key] != new[key]]
    if any(old[key] != new[key] for key in BY_RECIPE):
        other.append(f"train.recipe was {content['args']['train']['recipe']} there")
    if content["n_bins"] != n_bins:
        other.append(f"binning.n_bins is {content['n_bins']} there, {n_bins} here")
    if other:
        raise InputError(f"train.init_from {path} has another shape: {'; '.join(other)}; they have to agree")
