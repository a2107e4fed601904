"""Cells for `prep.py`: real cells drawn again with some of their counts, written as our chunks and as usual h5ad."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import sparse

from censusformer.hashing import cell_keys, to_hex
from censusformer.steps._h5ad import Labels, compact, write_chunk

SAMPLE_CELLS = 1400  # mean size of a sample; sizes relate as those of the real ones
LABELS = ("sample", "dataset_id", "donor_id", "cell_type")
TEST_SHARE = 20  # one sample in so many is a test sample


@dataclass(frozen=True)
class Real:
    """Real cells over the union of their files' genes: counts, labels, and the rows of each sample."""

    counts: sparse.csr_matrix
    feature_id: np.ndarray
    feature_name: np.ndarray
    cell_type: np.ndarray
    samples: list[tuple[str, str, np.ndarray]]


def read_real(paths: Sequence[Path], least: int = 50) -> Real:
    """Read the blood cells of h5ad files with raw counts, in samples (dataset, donor) of `least` cells at least."""
    parts = []
    for path in sorted(paths):
        one = ad.read_h5ad(path)
        one = one[(one.obs["tissue_general"] == "blood").to_numpy()]
        if one.n_obs:
            parts.append(one.copy())
    names = pd.concat([part.var["feature_name"].astype(str) for part in parts])
    names = names[~names.index.duplicated()].sort_index()
    blocks = [_over(part, names.index) for part in parts]
    obs = pd.concat([part.obs[["dataset_id", "donor_id", "cell_type"]].astype(str) for part in parts])
    obs = obs.reset_index(drop=True)
    groups = obs.groupby(["dataset_id", "donor_id"], sort=True).indices
    samples = [(*name, rows) for name, rows in groups.items() if len(rows) >= least]
    counts = sparse.vstack(blocks, format="csr")
    return Real(counts, names.index.to_numpy(str), names.to_numpy(str), obs["cell_type"].to_numpy(str), samples)


def _over(part: ad.AnnData, genes: pd.Index) -> sparse.csr_matrix:
    counts = sparse.csr_matrix(part.X)
    columns = genes.get_indexer(part.var_names).astype(np.int32)
    moved = sparse.csr_matrix(
        (counts.data.astype(np.uint16), columns[counts.indices], counts.indptr), (part.n_obs, len(genes))
    )
    moved.sort_indices()
    return moved


@dataclass(frozen=True)
class Made:
    """One chunk's files: the raw counts as `download` writes them, the list of its cells, and how many there are."""

    name: str
    raw: Path
    list: Path
    n_cells: int


def make_chunks(
    real: Real, sizes: Sequence[int], folder: Path, *, kept: tuple[float, float] = (0.25, 0.75), seed: int = 0
) -> Iterator[Made]:
    """Make a chunk of each size; a sample is a real one drawn anew, whole but for the last of a chunk.

    `kept` are the bounds of the share of a cell's counts that it keeps, drawn for each cell.
    """
    turn, grown = 0, SAMPLE_CELLS * len(real.samples) / sum(len(rows) for *_, rows in real.samples)
    for number, size in enumerate(sizes):
        rng = np.random.default_rng([seed, number])
        rows, sample, left = [], [], size
        while left:
            of_sample = real.samples[turn % len(real.samples)][2]
            n = min(round(grown * len(of_sample)), left)
            rows.append(rng.choice(of_sample, n))
            sample.append(np.full(n, turn))
            turn, left = turn + 1, left - n
        counts = thinned(real.counts[np.concatenate(rows)], kept, rng)
        yield _write(real, np.concatenate(rows), np.concatenate(sample), counts, folder / f"raw/chunk{number:05d}.h5ad")


def _write(real: Real, rows: np.ndarray, sample: np.ndarray, counts: sparse.csr_matrix, raw: Path) -> Made:
    made = Made(raw.stem, raw, raw.parents[1] / f"chunks/{raw.stem}.parquet", len(rows))
    origin = sample % len(real.samples)
    dataset = np.array([one[0] for one in real.samples], dtype=object)[origin]
    donor = np.array([f"{real.samples[i % len(real.samples)][1]}-{i}" for i in range(sample.max() + 1)], object)[sample]
    labels = {"sample": dataset + ":" + donor, "dataset_id": dataset, "donor_id": donor}
    labels["cell_type"] = real.cell_type[rows]
    cell = cell_keys(dataset, [f"{raw.stem}-{i}" for i in range(len(rows))])
    write_chunk(
        made.raw,
        (counts.indptr, counts.indices, compact(counts.data)),
        {**{key: Labels.of(values) for key, values in labels.items()}, "soma_joinid": np.arange(len(rows))},
        {"feature_name": real.feature_name.astype(object)},
        obs_names=to_hex(cell),
        var_names=real.feature_id.astype(object),
    )
    made.list.parent.mkdir(parents=True, exist_ok=True)
    status = np.where(sample % TEST_SHARE == TEST_SHARE - 1, "test", "train")
    pq.write_table(pa.table({"cell": cell, "sample": labels["sample"].astype(str), "status": status}), made.list)
    return made


def thinned(counts: sparse.csr_matrix, kept: tuple[float, float], rng: np.random.Generator) -> sparse.csr_matrix:
    """Keep each molecule of a cell with the same probability, drawn for the cell; zeros go."""
    share = np.repeat(rng.uniform(*kept, counts.shape[0]), np.diff(counts.indptr))
    single = counts.data == 1
    left = (rng.random(len(share), dtype=np.float32) < share).astype(counts.data.dtype)
    left[~single] = rng.binomial(counts.data[~single], share[~single])
    thin = sparse.csr_matrix((left, counts.indices, counts.indptr), counts.shape)
    thin.eliminate_zeros()
    return thin


def write_usual(chunks: Sequence[Made], path: Path) -> None:
    """Write the same cells as one h5ad in its usual form: float32 counts, gzip."""
    import hdf5plugin  # noqa: F401 - registers zstd with HDF5

    parts = [ad.read_h5ad(chunk.raw) for chunk in chunks]
    whole = ad.concat(parts, merge="same")
    whole.X = sparse.csr_matrix(whole.X, dtype=np.float32)
    for name in LABELS:
        whole.obs[name] = whole.obs[name].astype("category")
    whole.write_h5ad(path, compression="gzip")
