"""The usual path that `prep.py` compares with: scanpy for each sample, a Python loop over cells, Parquet at the end.

It is what notebooks for scGPT do, with nothing made slow on purpose: dense rows of a sample's 1200 genes alone, numpy
in the loop, one table. Results are those of the steps, but for ties, which it draws from a stream of random numbers.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scanpy as sc

N_TOP, N_BINS = 1200, 51
MIN_COUNTS_PER_GENE, MIN_GENES_PER_CELL, MIN_TOKENS = 3, 40, 10


def bins_of(row: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bin one dense row, as scGPT's `binning`: quantiles of the non-zeros, a draw among the bins of a tied value."""
    bins = np.zeros(len(row), np.int64)
    on = row.nonzero()[0]
    values = row[on]
    edges = np.quantile(values, np.linspace(0, 1, N_BINS - 1))
    left, right = np.digitize(values, edges), np.digitize(values, edges, right=True)
    bins[on] = np.ceil(rng.random(len(values)) * (left - right) + right)
    return bins


class Clock:
    """CPU seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, work: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call, add what it took to `name`, return what it returns."""
        started = time.process_time()
        result = work(*args, **options)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - started
        return result


def run_usual(file: Path, out: Path) -> tuple[dict[str, float], dict[str, set[str]]]:
    """Run the whole path; CPU seconds of its parts, and the genes that each sample selected."""
    clock = Clock()
    cells = clock("read", sc.read_h5ad, file)
    clock("filter", _filter, cells)
    position = {gene: i for i, gene in enumerate(cells.var_names)}
    selected, rows = {}, []
    for sample, index in cells.obs.groupby("sample", observed=True).indices.items():
        one = clock("filter", _of_sample, cells, index)
        found = clock("hvg", _genes_of, one)
        clock("normalise", _normalise, one)
        dense = clock("binning", _bin_sample, one, found)
        rows += clock("tokenize", _tokens, one, found, dense, position)
        selected[str(sample)] = set(one.var_names[found])
    clock("parquet", _write, rows, out)
    return clock.seconds, selected


def _filter(cells: ad.AnnData) -> None:
    sc.pp.filter_genes(cells, min_counts=MIN_COUNTS_PER_GENE)
    sc.pp.filter_cells(cells, min_genes=MIN_GENES_PER_CELL)


def _of_sample(cells: ad.AnnData, index: np.ndarray) -> ad.AnnData:
    one = cells[index].copy()
    sc.pp.filter_genes(one, min_cells=1)
    return one


def _genes_of(one: ad.AnnData) -> np.ndarray:
    n_top = min(N_TOP, one.n_vars)
    table = sc.pp.highly_variable_genes(one, flavor="seurat_v3", n_top_genes=n_top, span=1.0, inplace=False)
    return table["highly_variable"].to_numpy()


def _normalise(one: ad.AnnData) -> None:
    one.layers["normalised"] = one.X.copy()
    sc.pp.normalize_total(one, target_sum=1e4, layer="normalised")
    sc.pp.log1p(one, layer="normalised")


def _bin_sample(one: ad.AnnData, found: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    dense = one.layers["normalised"][:, found].toarray()
    return np.stack([bins_of(row, rng) if row.any() else np.zeros(len(row), np.int64) for row in dense])


def _tokens(one: ad.AnnData, found: np.ndarray, bins: np.ndarray, position: dict[str, int]) -> list[dict[str, Any]]:
    ids = np.array([position[gene] for gene in one.var_names[found]])
    labels = one.obs[["sample", "dataset_id", "cell_type"]].astype(str).to_dict("records")
    rows = []
    for name, label, row in zip(one.obs_names, labels, bins, strict=True):
        on = row.nonzero()[0]
        if len(on) >= MIN_TOKENS:
            rows.append({"cell": name, **label, "genes": ids[on], "values": row[on]})
    return rows


def _write(rows: list[dict[str, Any]], out: Path) -> None:
    order = np.random.default_rng(0).permutation(len(rows))
    pq.write_table(pa.Table.from_pylist([rows[i] for i in order]), out)
