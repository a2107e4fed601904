"""The shards of a data set, as a run needs them."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from censusformer.errors import InputError
from censusformer.tokens.cells import Cells
from censusformer.tokens.shards import file_sha256, read_manifest, read_split
from censusformer.tokens.vocabulary import Vocabulary
from censusformer.training.window import Window, decoded_bytes, fixed_cells, gene_sums, mean_bins, open_shards

logger = logging.getLogger("censusformer")


@dataclass(frozen=True)
class Data:
    """Training and validation cells, and what identifies them.

    Parameters
    ----------
    train, valid
        All cells of the two splits, decoded once into flat arrays; a window over the training shards where they would
        take more than `execution.memory`.
    fixed
        Training cells, as many as `valid` has, measured beside it: a gap between the two is overfitting.
    vocabulary
        The genes' ids.
    n_bins, max_length
        As in the shards.
    binning
        How values became bins: `method`, `ties` and `seed` of the config; empty where the list of shards does not say.
    sha256
        Digest of the list of shards; behind it, of a window, the shards that are open at once, since the order of cells
        depends on them.
    mean_bins
        Mean bin of each gene over the training cells, float64 (n_genes,).
    """

    train: Cells | Window
    valid: Cells
    fixed: Cells
    vocabulary: Vocabulary
    n_bins: int
    max_length: int
    sha256: str
    mean_bins: np.ndarray
    binning: Mapping[str, str | int] = field(default_factory=dict)


def read_data(shards: str | Path, vocabulary: Vocabulary, memory: float = 8.0) -> Data:
    """Read the shards that `shards.json` lists.

    Raises
    ------
    InputError
        Where a shard is damaged or of another vocabulary, a split has no cells, or memory is too small for a window.
    """
    about, digest = read_manifest(shards), file_sha256(shards)
    shape = vocabulary.n_genes, about["n_bins"]
    files = [file for file in about["splits"]["train"]["files"] if file["rows"]]
    if not files:
        raise InputError(f"{shards}: no training cells; raise census.max_cells or lower tokenize.min_genes")
    valid = read_split(shards, "valid", vocabulary)
    if not len(valid):
        raise InputError(f"{shards}: no validation cells; raise split.valid_fraction, or census.max_cells")
    if 2 * sum(decoded_bytes(file, *shape) for file in files) <= memory * 1e9:  # twice while it is put together
        train = read_split(shards, "train", vocabulary)
        fixed, means = train.take(fixed_cells(train.cell, len(valid))), mean_bins(*gene_sums(train, shape[0]))
    else:
        train = Window(Path(shards), tuple(files), vocabulary, open_shards(files, *shape, memory))
        fixed, *sums = train.scan(len(valid))
        means, digest = mean_bins(*sums), f"{digest}, {train.n_open} shards open"
        logger.info("training cells take more than execution.memory: %d of %d shards at once", train.n_open, len(files))
    shape = about["n_bins"], about["max_length"]
    return Data(train, valid, fixed, vocabulary, *shape, digest, means, about.get("binning", {}))
