"""Raw chunks of real cells as `download` leaves them, written by anndata alone, and the steps run on them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import scipy.sparse as sp
from real_chunk import real_counts

from censusformer.cli import main
from censusformer.hashing import cell_keys, to_hex

SAMPLES = ("d:a", "d:b", "e:c")


def thinned(n, n_genes, seed=0):
    """n cells drawn from the real ones, with 0.7 of their counts kept; and the genes' symbols."""
    rng = np.random.default_rng(seed)
    counts, names = real_counts()
    return rng.binomial(counts[rng.integers(0, len(counts), n), :n_genes], 0.7), names[:n_genes]


def write_raw(path, counts, ids, names, samples, *, first=0, dtype=np.float32, **columns):
    """Write a chunk's h5ad file; a cell's name is its position from `first`."""
    samples = np.asarray(samples)
    dataset, donor = np.array([sample.split(":") for sample in samples]).reshape(-1, 2).T
    obs = pd.DataFrame({"soma_joinid": np.arange(len(samples)) + 7, "sample": samples, "dataset_id": dataset})
    obs["donor_id"], obs["cell_type"] = donor, np.where(obs.index % 3 == 0, "T cell", "B cell")
    obs = obs.assign(**columns).astype({"sample": "category", "cell_type": "category", "donor_id": "category"})
    obs.index = to_hex(cell_keys(dataset, [f"cell{first + i}" for i in range(len(samples))]))
    var = pd.DataFrame({"feature_name": np.asarray(names, dtype=object)}, index=np.asarray(ids, dtype=object))
    path.parent.mkdir(parents=True, exist_ok=True)
    ad.AnnData(sp.csr_matrix(counts).astype(dtype), obs=obs, var=var).write_h5ad(path, compression="gzip")
    return path


@dataclass(frozen=True)
class Prepared:
    """Files of one data set of several chunks, in one folder."""

    folder: Path
    chunks: tuple[str, ...]

    def __getitem__(self, kind):
        """All chunks' files of a kind (raw, counts, hvg, cells, binned)."""
        suffix = ".h5ad" if kind in {"raw", "binned"} else ".parquet"
        return [self.folder / kind / f"{chunk}{suffix}" for chunk in self.chunks]

    @cached_property
    def genes(self):
        return self.folder / "genes.parquet"

    @cached_property
    def genes_table(self):
        return pq.read_table(self.genes).to_pandas()


def step(name, *options):
    """Run a step; options that are lists are spread, None left out."""
    flat = []
    for option in options:
        flat += [str(item) for item in option] if isinstance(option, list) else [str(option)]
    return main([name, *flat])


def prepare(folder, raw, *, min_counts=3, min_genes=20, n_top=100, hvg=()):
    """Run count, genes and hvg over raw chunks that are in `folder`/raw."""
    data = Prepared(folder, tuple(raw))
    for chunk, counts in zip(data["raw"], data["counts"], strict=True):
        assert step("count", "--chunk", chunk, "--out", counts) == 0
    options = ("--filter-min-counts-per-gene", min_counts, "--out", data.genes)
    assert step("genes", "--counts", data["counts"], *options) == 0
    for chunk, out, cells in zip(data["raw"], data["hvg"], data["cells"], strict=True):
        files = ("--chunk", chunk, "--genes", data.genes, "--out-hvg", out, "--out-cells", cells)
        settings = ("--hvg-n-top", n_top, "--filter-min-genes-per-cell", min_genes)
        assert step("hvg", *files, *settings, *hvg) == 0
    return data


def two_chunks(folder, n_genes=500):
    """Two chunks with three samples, whose genes stand in different orders; the second lacks some."""
    counts, names = thinned(240, n_genes)
    ids = np.array([f"ENSG{i:011d}" for i in np.random.default_rng(1).permutation(n_genes)])
    names = np.where(np.arange(n_genes) < 5, np.char.add("MT-", names), names)
    samples = np.array([SAMPLES[0]] * 70 + [SAMPLES[1]] * 50 + [SAMPLES[2]] * 120)
    order = np.random.default_rng(2).permutation(120)  # samples lie mixed
    write_raw(folder / "raw/one.h5ad", counts[:120][order], ids, names, samples[:120][order])
    genes = np.random.default_rng(3).permutation(n_genes)[: n_genes - 40]
    write_raw(folder / "raw/two.h5ad", counts[120:][:, genes], ids[genes], names[genes], samples[120:], first=120)
    return ("one", "two")


def whole(data):
    """All chunks' counts over the kept genes, dense, and their obs."""
    parts = []
    for path in data["raw"]:
        part = ad.read_h5ad(path)
        table = pd.DataFrame(part.X.toarray(), index=part.obs_names, columns=part.var_names)
        parts.append((table.reindex(columns=data.genes_table["feature_id"], fill_value=0).astype(int), part.obs))
    return pd.concat([part[0] for part in parts]), pd.concat([part[1] for part in parts])
