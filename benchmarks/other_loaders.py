"""Other loaders on the same cells, each where it is installed: batches of 64 cells, ready for the model but not masked.

What a loader gives is put into the model's form by `ready`, so that all end with the same tensors as our packed batches
without masks. Cells lie in memory but for scDataset over an h5ad on disk, which compares with our window.
"""

import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from censusformer.tokens.cells import Cells

Loader = Callable[[], Iterator[int]]  # an epoch: yields the number of cells of each batch


def ready(genes: np.ndarray, values: np.ndarray, offsets: np.ndarray, cls: int) -> int:
    """Put `<cls>` before each cell and convert to the tensors that the model takes; returns the number of cells."""
    n = len(offsets) - 1
    place = np.arange(len(genes)) + np.repeat(np.arange(1, n + 1), np.diff(offsets))
    packed, bins = np.full(len(genes) + n, cls, np.int64), np.zeros(len(genes) + n, np.float32)
    packed[place], bins[place] = genes, values
    for array in (packed, bins, (offsets + np.arange(n + 1)).astype(np.int32)):
        torch.from_numpy(array)
    return n


def scdataset(cells: Cells, n_genes: int, batch: int, block: int, *, on_disk: bool = False) -> Loader:
    """Use scDataset over a CSR matrix or an h5ad, shuffled in blocks of cells; 1: at random."""
    from scdataset import BlockShuffling, scDataset
    from scipy.sparse import csr_matrix

    values = cells.values.astype(np.float32) if on_disk else cells.values
    matrix = csr_matrix((values, cells.genes.astype(np.int32), cells.offsets), (len(cells), n_genes))
    source = backed(matrix) if on_disk else matrix

    class Rows:  # neither a sparse matrix nor one on disk has len()
        def __len__(self) -> int:
            return source.shape[0]

        def __getitem__(self, rows: np.ndarray) -> csr_matrix:
            return source[rows]

    reader = scDataset(Rows(), BlockShuffling(block), batch, fetch_factor=16, seed=0)
    return lambda: (ready(rows.indices, rows.data, rows.indptr, n_genes) for rows in reader)


def backed(matrix):
    """The same matrix in an h5ad, opened but not read."""
    import anndata

    path = Path(tempfile.mkdtemp()) / "cells.h5ad"
    anndata.AnnData(matrix).write_h5ad(path)
    opened = anndata.read_h5ad(path, backed="r")
    path.unlink()  # the open file remains until the process ends
    path.parent.rmdir()
    return opened.X


def hugging_face(cells: Cells, n_genes: int, batch: int) -> Loader:
    """Use Hugging Face datasets: an Arrow table of lists, rows of a permutation."""
    import datasets
    import pyarrow as pa

    columns = {
        name: pa.ListArray.from_arrays(pa.array(cells.offsets, pa.int32()), pa.array(getattr(cells, name)))
        for name in ("genes", "values")
    }
    table = datasets.Dataset(pa.table(columns)).with_format("arrow")
    order = np.random.default_rng(0).permutation(len(cells))

    def epoch() -> Iterator[int]:
        for start in range(0, len(order), batch):
            rows = table[order[start : start + batch]]
            genes, values = (rows[name].combine_chunks() for name in ("genes", "values"))
            offsets = genes.offsets.to_numpy().astype(np.int64)
            yield ready(genes.flatten().to_numpy(), values.flatten().to_numpy(), offsets - offsets[0], n_genes)

    return epoch


def torchdata(cells: Cells, n_genes: int, batch: int) -> Loader:
    """Use torchdata's nodes over slices of our own flat arrays: one item a cell, collated to a batch."""
    from torch.utils.data import RandomSampler
    from torchdata import nodes

    class Items:
        def __len__(self) -> int:
            return len(cells)

        def __getitem__(self, row: int) -> tuple[np.ndarray, np.ndarray]:
            tokens = slice(cells.offsets[row], cells.offsets[row + 1])
            return cells.genes[tokens], cells.values[tokens]

    def collate(items: list) -> int:
        genes, values = zip(*items, strict=True)
        offsets = np.cumsum([0, *map(len, genes)])
        return ready(np.concatenate(genes), np.concatenate(values), offsets, n_genes)

    items = Items()
    node = nodes.Batcher(nodes.MapStyleWrapper(items, RandomSampler(items)), batch, drop_last=False)
    loader = nodes.Loader(nodes.Mapper(node, collate))
    return lambda: iter(loader)


def others(cells: Cells, n_genes: int, batch: int) -> dict[str, Loader | str]:
    """Each by name and version; where it is not installed, why not."""
    made: dict[str, Loader | str] = {}
    for name, package, make in (
        ("scDataset, CSR matrix, at random", "scdataset", lambda: scdataset(cells, n_genes, batch, 1)),
        ("scDataset, CSR matrix, blocks of 16", "scdataset", lambda: scdataset(cells, n_genes, batch, 16)),
        ("scDataset, h5ad, blocks of 16", "scdataset", lambda: scdataset(cells, n_genes, batch, 16, on_disk=True)),
        ("Hugging Face datasets, Arrow table", "datasets", lambda: hugging_face(cells, n_genes, batch)),
        ("torchdata nodes, our flat arrays", "torchdata", lambda: torchdata(cells, n_genes, batch)),
    ):
        try:
            made[f"{name} ({metadata.version(package)})"] = make()
        except (ImportError, metadata.PackageNotFoundError) as error:
            made[name] = str(error)
    return made
