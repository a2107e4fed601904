"""What the step `embeddings` reads and represents: cells, their labels and raw counts, and each representation."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from censusformer.errors import InputError
from censusformer.evaluation import representations
from censusformer.hashing import draw, word
from censusformer.steps._cells import rows_of
from censusformer.steps._chunks import open_chunk
from censusformer.steps._genes import Genes
from censusformer.steps._tables import read_table
from censusformer.tokens.cells import Cells, concat
from censusformer.tokens.vocabulary import Vocabulary

logger = logging.getLogger("censusformer")
_CHOSEN = word("censusformer embeddings: cells that are embedded")
UNLABELLED = frozenset(("", "unknown", "nan", "na", "none", "unassigned", "unlabelled", "unlabeled"))


@dataclass(frozen=True)
class Chosen:
    """The cells that are embedded, training cells first.

    Parameters
    ----------
    cells
        Their tokens.
    test
        bool (n,): cells of held-out samples.
    person, donor
        Object (n,): whose they are, and the donor's name in the data set.
    """

    cells: Cells
    test: np.ndarray
    person: np.ndarray
    donor: np.ndarray

    def __len__(self) -> int:
        return len(self.test)

    @property
    def labelled(self) -> np.ndarray:
        """Cells whose type is known, bool (n,)."""
        known = np.array([name.strip().lower() not in UNLABELLED for name in self.cells.cell_type.names], bool)
        return known[self.cells.cell_type.codes]


def choose(train: Cells, test: Cells, samples: Path, most: int) -> Chosen:
    """Choose by hash at most `most` training and as many test cells, and look up persons and donors."""
    parts = [cells.take(np.sort(np.argsort(draw(_CHOSEN, cells.cell), kind="stable")[:most]))
             for cells in (train, test) if len(cells)]  # fmt: skip
    cells = concat(parts)
    held_out = np.arange(len(cells)) >= len(parts[0])
    optional = ("person", "donor_id")
    table = read_table(samples, ["sample"], optional=optional).to_pandas().astype(str).set_index("sample")
    missing = set(cells.sample.tidy().names) - set(table.index)
    if missing:
        raise InputError(f"{samples} lacks the sample {min(missing)!r} of the shards: run `select` again")
    used = [name if name in table.index else "" for name in cells.sample.names]
    of = {name: table[name].reindex(used).to_numpy(object)[cells.sample.codes] for name in table}
    sample = cells.sample.labels()
    return Chosen(cells, held_out, of.get("person", sample), of.get("donor_id", sample))


def read_counts(chunks: Sequence[Path], vocabulary: Vocabulary, wanted: np.ndarray) -> sparse.csr_matrix:
    """Raw counts of the vocabulary's genes, float32 (wanted, genes), for these cells' keys (uint64), in their order."""
    genes = Genes(vocabulary.genes, vocabulary.names)
    parts, places = [sparse.csr_matrix((0, len(genes)), dtype=np.float32)], [np.empty(0, np.int64)]
    for path in chunks:
        with open_chunk(path) as chunk:
            column, (row, found) = genes.of_columns(chunk), rows_of(chunk.cell, wanted)
            place = np.full(chunk.n_cells, -1)
            place[row[found]] = np.flatnonzero(found)
            for rows in chunk.rows():
                here = place[rows.slice]
                counts = sparse.csr_matrix(
                    (rows.data, rows.indices.astype(np.int32), rows.indptr), (len(rows), chunk.n_genes)
                )
                parts.append(_in_vocabulary(counts[here >= 0], column, len(genes)))
                places.append(here[here >= 0])
    place = np.concatenate(places)
    if len(place) != len(wanted):
        raise InputError(f"--chunk: {len(wanted) - len(place):,} cells of the shards are in none of them: give all")
    return sparse.vstack(parts, "csr")[np.argsort(place, kind="stable")]


def _in_vocabulary(counts: sparse.csr_matrix, column: np.ndarray, n_genes: int) -> sparse.csr_matrix:
    """Columns of a chunk as the vocabulary's genes; the others are left out."""
    kept = np.flatnonzero(column >= 0)
    part = counts[:, kept].tocoo()
    return sparse.csr_matrix(
        (part.data.astype(np.float32), (part.row, column[kept][part.col])), (len(counts.indptr) - 1, n_genes)
    )


def of_model(model, name: str, cells: Cells) -> Iterator[tuple[str, np.ndarray]]:
    """Both poolings of an encoder's outputs, by name."""
    from censusformer.training import embed_cells

    for pooling in ("cls", "mean"):
        yield f"{name}_{pooling}", embed_cells(model, cells, pooling)


def untrained(model, seed: int):
    """The same encoder with the weights that it began with, drawn by `seed`, on the same device."""
    import torch

    from censusformer.model import Pretrainer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = Pretrainer(model.config)
    return fresh.to(next(model.parameters()).device).eval()


def of_counts(
    chosen: Chosen, counts: sparse.csr_matrix, n_samples: np.ndarray, *, scvi: bool
) -> Iterator[tuple[str, np.ndarray]]:
    """Baselines: highly variable genes and principal components, Harmony, scVI, the set of genes without values."""
    fitted, sample, cells = ~chosen.test, chosen.cells.sample.codes, chosen.cells
    values = representations.log_normalised(counts)
    genes = representations.variable_genes(n_samples, values[fitted])
    components = representations.principal_components(values[:, genes], fitted)
    yield "pca", components
    if len(np.unique(sample)) > 1:
        yield "harmony", representations.harmony(components, sample)
    if scvi:
        yield "scvi", representations.scvi_latent(counts[:, genes], sample)
    yield "gene_set", representations.gene_sets(cells.offsets, cells.genes, counts.shape[1], fitted)
