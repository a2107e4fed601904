"""Cells of three planted types, in samples of two data sets: raw counts, shards and persons."""

import numpy as np
import pandas as pd
from raw_chunk import write_raw
from small_shards import N_BINS, write_data

from censusformer.evaluation.markers import MARKERS
from censusformer.hashing import cell_keys
from censusformer.tokens.cells import Categories, Cells
from censusformer.tokens.vocabulary import Vocabulary

TYPES = ("T cell", "B cell", "monocyte")
N_GENES, N_SAMPLES, N_TEST = 60, 12, 5


def planted_counts(n_cells, seed=0):
    """Counts (n_cells, 60) and types: markers of a cell's type are up, on programs that other genes share."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(7)
    level, program = fixed.normal(1.5, 0.4, N_GENES), fixed.normal(0, 1, (len(TYPES), N_GENES))
    for kind, genes in enumerate(marker_places()):
        program[kind, genes] = 2
    kinds = rng.integers(len(TYPES), size=n_cells)
    depth = rng.lognormal(0, 0.3, n_cells)
    return rng.poisson(depth[:, None] * np.exp(level + program[kinds])), kinds


def marker_places():
    """Places of each type's markers: 9 genes each, one after the other."""
    return [np.arange(9) + 9 * kind for kind in range(len(TYPES))]


def symbols():
    markers = [name for kind in TYPES for name in MARKERS[kind][:9]]
    return [*markers, *(f"G{i}" for i in range(len(markers), N_GENES))]


def bins_of(counts):
    """Ranks of a cell's counts as bins, ties in the order of genes."""
    return 1 + np.argsort(np.argsort(counts, kind="stable")) * (N_BINS - 1) // len(counts)


def cells_of(counts, kinds, sample, keys, *, unlabelled=()):
    """Tokens of at most 30 of each cell's genes, drawn: which ones they are says little of the type, their bins do."""
    rng = np.random.default_rng(3)
    shown = (rng.permutation(np.flatnonzero(row)) for row in counts)
    lists = [np.sort(genes[:30]) for genes in shown]
    label = np.array(TYPES, object)[kinds]
    label[list(unlabelled)] = "unknown"
    return Cells(
        cell=keys,
        offsets=np.r_[0, np.cumsum([len(genes) for genes in lists])].astype(np.int64),
        genes=np.concatenate(lists).astype(np.uint16),
        values=np.concatenate([bins_of(row[genes]) for row, genes in zip(counts, lists, strict=True)]).astype(np.uint8),
        tie_var=np.zeros(len(lists), np.float32),
        sample=Categories.of(sample),
        dataset_id=Categories.of([name.split(":")[0] for name in sample]),
        cell_type=Categories.of(label),
    )


def write_planted(folder, *, per_sample=60, n_test=N_TEST, n_types=3, shuffled=False, unlabelled=0):
    """Write raw.h5ad, shards, vocabulary and samples; the last `n_test` of twelve samples are held out.

    Parameters
    ----------
    n_types
        Types among the cells, at most three.
    shuffled
        Training and validation cells get the genes of others at random: nothing is left to learn.
    unlabelled
        Of each sample's cells, so many have no known type.
    """
    folder.mkdir(parents=True, exist_ok=True)
    counts, kinds = planted_counts(per_sample * N_SAMPLES)
    kinds %= n_types
    names = [f"{'de'[i % 2]}:p{i}" for i in range(N_SAMPLES)]
    sample = np.repeat(np.array(names, object), per_sample)
    keys = cell_keys([name.split(":")[0] for name in sample], [f"cell{i}" for i in range(len(sample))])
    blank = np.flatnonzero(np.arange(len(sample)) % per_sample < unlabelled)
    cells = cells_of(counts, kinds, sample, keys, unlabelled=blank)
    ids, held_out = [f"ENSG{i:011d}" for i in range(N_GENES)], set(names[N_SAMPLES - n_test :])
    vocabulary = Vocabulary(tuple(ids), tuple(symbols()), tuple([N_SAMPLES] * N_GENES))
    write_raw(folder / "raw.h5ad", counts, ids, symbols(), sample)
    test = np.array([name in held_out for name in sample])
    valid = ~test & (np.arange(len(sample)) % 20 == 0)
    splits = {name: cells.take(np.flatnonzero(rows)) for name, rows in
              (("train", ~test & ~valid), ("valid", valid), ("test", test))}  # fmt: skip
    if shuffled:
        splits = {name: part if name == "test" else shuffle(part) for name, part in splits.items()}
    write_data(folder, splits, vocabulary)
    table = {"sample": names, "dataset_id": [name[0] for name in names], "donor_id": [name[2:] for name in names]}
    status = ["test" if name in held_out else "train" for name in names]
    pd.DataFrame({**table, "person": [f"person {i}" for i in range(N_SAMPLES)], "status": status}).to_parquet(
        folder / "samples.parquet"
    )
    return folder


def shuffle(cells, seed=0):
    """The same cells with genes drawn anew in each: values stay."""
    rng = np.random.default_rng(seed)
    genes = [np.sort(rng.choice(N_GENES, n, replace=False)) for n in cells.lengths]
    ends = zip(cells.offsets, cells.offsets[1:], strict=False)
    values = [rng.permutation(cells.values[a:b]) for a, b in ends]  # noqa: PD011 - an array of Cells
    return type(cells)(**{**vars(cells), "genes": np.concatenate(genes).astype(np.uint16),
                          "values": np.concatenate(values)})  # fmt: skip
