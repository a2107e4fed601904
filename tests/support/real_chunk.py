"""A chunk of real cells as the steps before `split` leave it, made without their code."""

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp

from censusformer.hashing import cell_keys, to_hex

N_BINS = 51


@cache
def real_counts():
    """Counts of 80 immune cells that celltypist ships, in genes with at least 20 counts, and the genes' names."""
    folder = Path(importlib.util.find_spec("celltypist").origin).parent
    table = pd.read_csv(folder / "data/samples/sample_cell_by_gene.csv", nrows=80, index_col=0)
    counts = np.rint(table.to_numpy()).astype(np.int64)
    keep = counts.sum(axis=0) >= 20
    return counts[:, keep], table.columns[keep].to_numpy(str)


def bins_of(counts):
    """Each cell's non-zero counts as bins, the middle of tied ones, and the variance that a draw would have."""
    bins, variance = np.zeros_like(counts), np.zeros(len(counts), np.float32)
    for row, x in enumerate(counts):
        v = x[x > 0]
        edges = np.quantile(v, np.linspace(0, 1, N_BINS - 1))
        low, high = np.searchsorted(edges, v, "left"), np.searchsorted(edges, v, "right")
        bins[row, x > 0] = np.where(low == high, high, (low + 1 + high) // 2)
        variance[row] = np.mean(np.where(low == high, 0, ((high - low) ** 2 - 1) / 12))
    return bins, variance


@dataclass(frozen=True)
class Chunk:
    """The files of one chunk and what they hold."""

    folder: Path
    cell: np.ndarray
    bins: np.ndarray
    genes: np.ndarray
    sample: np.ndarray
    tie_var: np.ndarray

    def __getattr__(self, name):
        """The path of a file: chunk.list, chunk.cells, chunk.binned, chunk.genes_file, chunk.hvg."""
        files = {"list": "list.parquet", "cells": "cells.parquet", "binned": "binned.h5ad"}
        files |= {"genes_file": "genes.parquet", "hvg": "hvg.parquet"}
        if name not in files:
            raise AttributeError(name)
        return self.folder / files[name]


def write_chunk(folder, *, first=0, n=80, samples=("d:a", "d:b", "e:c", "e:test"), test=("e:test",), poor=0, genes=600):
    """Write a chunk's files: cells first..first+n of the real ones, `poor` of them with 5 genes alone."""
    folder.mkdir(parents=True, exist_ok=True)
    counts, symbols = real_counts()
    counts = counts[first : first + n, :genes].copy()
    for row in range(poor):
        counts[row, np.flatnonzero(counts[row])[5:]] = 0
    ids = np.array([f"ENSG{i:011d}" for i in range(genes)])
    sample = np.array([samples[i % len(samples)] for i in range(n)])
    bins, variance = bins_of(counts)
    cell = cell_keys([s.split(":")[0] for s in sample], [f"cell{first + i}" for i in range(n)])
    chunk = Chunk(folder, cell, bins, ids, sample, variance)
    status = np.where(np.isin(sample, test), "test", "train")
    _parquet(chunk.list, {"cell": cell[::-1], "sample": sample[::-1], "status": status[::-1]})
    _parquet(chunk.cells, {"cell": cell, "sample": sample})
    _parquet(chunk.genes_file, {"feature_id": ids, "feature_name": symbols[:genes]})
    _parquet(chunk.hvg, {"sample": np.repeat(samples[:2], 100), "feature_id": np.r_[ids[:100], ids[50:150]]})
    _write_binned(chunk)
    return chunk


def _parquet(path, columns):
    pq.write_table(pa.table({name: pa.array(values) for name, values in columns.items()}), path)


def _write_binned(chunk):
    obs = pd.DataFrame(
        {"sample": chunk.sample, "dataset_id": [s.split(":")[0] for s in chunk.sample], "tie_var": chunk.tie_var}
    )
    obs["cell_type"] = pd.Categorical(["T cell", None] * (len(obs) // 2) + ["B cell"] * (len(obs) % 2))
    obs["sample"], obs["dataset_id"] = pd.Categorical(obs["sample"]), pd.Categorical(obs["dataset_id"])
    obs.index = to_hex(chunk.cell)
    matrix = sp.csr_matrix(chunk.bins.astype(np.uint8))
    ad.AnnData(matrix, obs=obs, var=pd.DataFrame(index=chunk.genes)).write_h5ad(chunk.binned)
