"""Small sets of tokenised cells with structure to learn, in memory and as shards on disk."""

import json

import numpy as np

from censusformer.tokens.cells import Categories, Cells
from censusformer.tokens.shards import ShardMeta, file_sha256, write_shard
from censusformer.tokens.vocabulary import Vocabulary

N_BINS, MAX_LENGTH = 51, 61


def vocabulary_of(n_genes):
    return Vocabulary(
        tuple(f"ENSG{i:011d}" for i in range(n_genes)), tuple(f"G{i}" for i in range(n_genes)), (1,) * n_genes
    )


def cells_of(lists, bins, keys=None):
    """Cells of these lists of genes and bins."""
    lengths = [len(genes) for genes in lists]
    keys = np.arange(1, len(lists) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) if keys is None else keys
    labels = Categories.of(["a"] * len(lists)) if lists else Categories(np.empty(0, np.int32), ())
    return Cells(
        cell=keys,
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        genes=np.concatenate([*lists, []]).astype(np.uint16),
        values=np.concatenate([*bins, []]).astype(np.uint8),
        tie_var=np.zeros(len(lists), np.float32),
        sample=labels,
        dataset_id=labels,
        cell_type=labels,
    )


def expressed(n, n_genes=80, seed=0, mean=30):
    """Cells of three types: each type shifts the ranks of its genes, each gene has a level of its own."""
    rng = np.random.default_rng(seed)
    level = np.random.default_rng(7).normal(0, 1, n_genes)
    program = np.random.default_rng(8).normal(0, 2, (3, n_genes))
    lists, bins = [], []
    for _ in range(n):
        length = int(np.clip(rng.poisson(mean), 5, min(n_genes, MAX_LENGTH - 1)))
        genes = np.sort(rng.choice(n_genes, length, replace=False))
        x = level[genes] + program[rng.integers(3)][genes] + rng.normal(0, 0.3, length)
        lists.append(genes)
        bins.append(1 + np.argsort(np.argsort(x)) * (N_BINS - 1) // length)
    return cells_of(lists, bins, rng.integers(0, 2**63, n, dtype=np.uint64))


def write_data(folder, splits, vocabulary):
    """Shards, their list and the vocabulary in a folder."""
    meta = ShardMeta(N_BINS, MAX_LENGTH, vocabulary.sha256)
    listed = {}
    for split, cells in splits.items():
        path = folder / f"{split}.parquet"
        write_shard(path, cells, meta)
        about = {"path": path.name, "rows": len(cells), "tokens": cells.n_tokens, "sha256": file_sha256(path)}
        listed[split] = {"files": [about]}
    content = {"vocab_sha256": vocabulary.sha256, "n_bins": N_BINS, "max_length": MAX_LENGTH, "splits": listed}
    content["binning"] = {"method": "cell", "ties": "random", "seed": 3}
    (folder / "shards.json").write_text(json.dumps(content))
    vocabulary.write(folder / "vocab.json")
    return folder
