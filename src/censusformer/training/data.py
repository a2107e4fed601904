"""The shards of a data set in memory, as a run needs them."""

from dataclasses import dataclass
from pathlib import Path

from censusformer.errors import InputError
from censusformer.tokens.cells import Cells
from censusformer.tokens.shards import file_sha256, read_manifest, read_split
from censusformer.tokens.vocabulary import Vocabulary
from censusformer.training.window import fixed_cells


@dataclass(frozen=True)
class Data:
    """Training and validation cells, and what identifies them.

    Parameters
    ----------
    train, valid
        All cells of the two splits, decoded once into flat arrays.
    fixed
        Training cells, as many as `valid` has, measured beside it: a gap between the two is overfitting.
    vocabulary
        The genes' ids.
    n_bins, max_length
        As in the shards.
    sha256
        Digest of the list of shards.
    """

    train: Cells
    valid: Cells
    fixed: Cells
    vocabulary: Vocabulary
    n_bins: int
    max_length: int
    sha256: str


def read_data(shards: str | Path, vocabulary: Vocabulary) -> Data:
    """Read the shards that `shards.json` lists.

    Raises
    ------
    InputError
        Where a shard is damaged or of another vocabulary, or a split has no cells.
    """
    about = read_manifest(shards)
    train, valid = (read_split(shards, split, vocabulary) for split in ("train", "valid"))
    if not len(train):
        raise InputError(f"{shards}: no training cells; raise census.max_cells or lower tokenize.min_genes")
    if not len(valid):
        raise InputError(f"{shards}: no validation cells; raise split.valid_fraction, or census.max_cells")
    fixed = train.take(fixed_cells(train.cell, len(valid)))
    return Data(train, valid, fixed, vocabulary, about["n_bins"], about["max_length"], file_sha256(shards))
