"""One's own cells as a pretrained model reads them: genes of a fixed list that lies in the model, as bins of each cell.

What a cell becomes depends on that cell alone, its counts and its name: not on other cells, their order or blocks, the
order of genes, nor the name of the file.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from censusformer.census.h5ad import from_symbols, gene_ids
from censusformer.census.ingest import dataset_ids
from censusformer.census.symbols import read_gencode
from censusformer.errors import InputError
from censusformer.expression.binning import Binning, bin_rows
from censusformer.hashing import cell_keys
from censusformer.steps._counts import Source
from censusformer.tokens.cells import Categories, Cells, concat
from censusformer.tokens.shards import empty_cells, gene_dtype, value_dtype
from censusformer.tokens.vocabulary import Vocabulary
from censusformer.training import vocabulary_of

logger = logging.getLogger("censusformer")

MOST_GENES = 1200
MIN_COVERAGE = 0.5
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Reading:
    """How a model reads cells.

    Parameters
    ----------
    vocabulary
        The model's.
    n_bins, ties, seed
        As `expression.binning.Binning` has them.
    max_length
        The most tokens that a training cell could have, `<cls>` included.
    """

    vocabulary: Vocabulary
    n_bins: int
    max_length: int
    ties: str = "random"
    seed: int = 0

    @classmethod
    def of(cls, about: Mapping[str, Any], path: str | Path) -> "Reading":
        """Take it from what `training.load_model` says of a model's file.

        Raises
        ------
        InputError
            Where the model lacks its vocabulary, or was trained on bins that one cell alone does not give.
        """
        binning = {"method": "cell", "ties": "random", "seed": 0, **about.get("binning", {})}
        if binning["method"] != "cell":
            raise InputError(
                f"{path} was trained with binning.method {binning['method']}: its bins depend on all cells of its data "
                "set, so it cannot read others; train with binning.method cell"
            )
        vocabulary = vocabulary_of(about, path)
        reading = cls(vocabulary, about["n_bins"], about["max_length"], binning["ties"], binning["seed"])
        if not len(reading.genes):
            raise InputError(f"{path}: no sample selected a gene, by the `n_samples` of its vocabulary")
        return reading

    @cached_property
    def genes(self) -> np.ndarray:
        """The genes that are read, int64 (k,), rising ids: those that most training samples selected, at most 1200."""
        return self.vocabulary.most_selected(min(MOST_GENES, self.max_length - 1))


@dataclass(frozen=True)
class Coverage:
    """What a model sees of a source.

    Parameters
    ----------
    genes, listed
        Genes of the model's list that the source has, and genes of the list.
    counts, known, read
        The source's counts in all, on genes of the vocabulary, and on genes of the list.
    """

    genes: int
    listed: int
    counts: int = 0
    known: int = 0
    read: int = 0

    @property
    def share(self) -> float:
        """Of the list, what the source has."""
        return self.genes / self.listed

    def __str__(self) -> str:
        known, read = (100 * part / max(1, self.counts) for part in (self.known, self.read))
        found = f"{self.genes:,} of the {self.listed:,} genes that the model reads are there ({100 * self.share:.1f} %)"
        return f"{found}; {known:.1f} % of the counts are on genes of its vocabulary, {read:.1f} % on those it reads"


class OwnCells:
    """The cells of a source, tokenised for a model, block by block.

    Parameters
    ----------
    source
        The cells.
    reading
        How the model reads them.
    min_coverage
        The least share of the model's genes that the source must have.

    Raises
    ------
    InputError
        Where it has fewer.
    """

    def __init__(self, source: Source, reading: Reading, min_coverage: float = MIN_COVERAGE) -> None:
        self.source, self.reading = source, reading
        self._gene_of = genes_of(source.var, reading.vocabulary)
        place = np.full(reading.vocabulary.n_genes + 1, -1, np.int32)
        place[reading.genes] = np.arange(len(reading.genes), dtype=np.int32)
        self._place_of = place[self._gene_of]  # of each column, in the list
        found = len(np.unique(self._place_of[self._place_of >= 0]))
        self.coverage = Coverage(found, len(reading.genes))
        self._refuse(min_coverage)

    def __len__(self) -> int:
        return len(self.source.obs)

    @cached_property
    def cell(self) -> np.ndarray:
        """The cells' keys, uint64 (n,): of obs.dataset_id, where there is one, and the name in obs."""
        obs = self.source.obs
        return cell_keys(self._dataset_ids if "dataset_id" in obs else [""] * len(obs), obs.index.astype(str))

    def blocks(self) -> Iterator[Cells]:
        """All cells in order, a block at a time; `coverage` counts along."""
        first, counted = 0, np.zeros(len(self._gene_of), np.int64)
        labels = self._labels
        for counts in self.source.blocks():
            rows = np.arange(first, first + counts.shape[0])
            counted += np.bincount(counts.indices, counts.data, len(counted)).astype(np.int64)
            yield self._tokenised(counts, self.cell[rows], [column.take(rows) for column in labels])
            first += len(rows)
        known, read = (int(counted[place >= 0].sum()) for place in (self._gene_of, self._place_of))
        about = self.coverage
        self.coverage = Coverage(about.genes, about.listed, int(counted.sum()), known, read)

    def read(self) -> Cells:
        """All cells at once."""
        blocks = list(self.blocks())
        return concat(blocks) if blocks else empty_cells(*self._dtypes)

    def _tokenised(self, counts: sparse.csr_matrix, cell: np.ndarray, labels: list[Categories]) -> Cells:
        reading = self.reading
        listed = _columns(counts, self._place_of, len(reading.genes))
        chosen = np.zeros((1, reading.vocabulary.n_genes), bool)
        chosen[0, reading.genes] = True
        binned = bin_rows(
            (listed.indptr.astype(np.int64), listed.indices.astype(np.int32), listed.data),
            reading.genes.astype(np.int32),
            np.zeros(len(cell), np.int32),
            chosen,
            cell=cell,
            gene_words=reading.vocabulary.gene_words,
            how=Binning(reading.n_bins, reading.ties, reading.seed),
        )
        genes, bins = self._dtypes
        return Cells(cell, binned.indptr, binned.genes.astype(genes), binned.bins.astype(bins), binned.tie_var, *labels)

    @property
    def _dtypes(self) -> tuple[type, type]:
        return gene_dtype(self.reading.vocabulary.n_genes), value_dtype(self.reading.n_bins)

    @cached_property
    def _dataset_ids(self) -> np.ndarray:
        return dataset_ids(Path(self.source.name), self.source.obs)

    @property
    def _labels(self) -> list[Categories]:
        """Sample, data set and cell type of all cells, `unknown` where obs does not say."""
        donors, types = (_texts(self.source.obs, name) for name in ("donor_id", "cell_type"))
        samples = [f"{dataset}:{donor}" for dataset, donor in zip(self._dataset_ids, donors, strict=True)]
        return [Categories.of(column) for column in (samples, self._dataset_ids, types)]

    def _refuse(self, least: float) -> None:
        found, source = self.coverage, self.source
        if found.genes and found.share >= least:
            return
        some = ", ".join(source.var.index.astype(str)[:3])
        few = "no gene in common with the model"
        if found.genes:
            few = f"{found.genes} of the {found.listed} genes that the model reads, under {100 * least:.0f} %"
        raise InputError(
            f"{source.name} has {few} (its genes: {some}, …; the model's: {', '.join(self._examples())}, …): "
            "Ensembl ids or symbols of the model's organism are needed"
            + (", or a lower --min-coverage" if found.genes else "")
        )

    def _examples(self) -> list[str]:
        vocabulary = self.reading.vocabulary
        return [f"{vocabulary.genes[i]} {vocabulary.names[i]}" for i in self.reading.genes[:3].tolist()]


def genes_of(var: pd.DataFrame, vocabulary: Vocabulary) -> np.ndarray:
    """Match each row of var with a gene of the vocabulary: by Ensembl ids, where it has any, else by symbols.

    Symbols are the vocabulary's own first, then GENCODE's, where the package that ships them is installed.

    Returns
    -------
    int32 (n,), gene ids; -1 where there is none.
    """
    human = vocabulary.genes[0].startswith("ENSG")
    mouse = vocabulary.genes[0].startswith("ENSMUSG")
    ids, _ = gene_ids(var, "homo_sapiens" if human else "mus_musculus" if mouse else "other")
    if not (ids != "").any():
        ids, _ = from_symbols(var, _symbols(vocabulary, human=human))
    place = {gene: i for i, gene in enumerate(vocabulary.genes)}
    return np.array([place.get(gene, -1) for gene in ids.tolist()], np.int32)


def _symbols(vocabulary: Vocabulary, *, human: bool) -> pd.DataFrame:
    """Ids and symbols, as `read_gencode` gives them."""
    own = pd.DataFrame({"feature_id": vocabulary.genes, "feature_name": vocabulary.names})
    try:
        gencode = read_gencode() if human else own
    except InputError as error:
        logger.info("symbols are matched with those of the model alone: %s", error)
        gencode = own
    return pd.concat([own, gencode[~gencode["feature_name"].isin(own["feature_name"])]], ignore_index=True)


def _columns(counts: sparse.csr_matrix, place_of: np.ndarray, n: int) -> sparse.csr_matrix:
    """Counts of the listed genes, uint32 (cells, n); columns of one gene are summed."""
    place = place_of[counts.indices]
    kept = place >= 0
    indptr = np.concatenate([[0], np.cumsum(kept)])[counts.indptr]
    data = counts.data[kept].astype(np.uint32)
    listed = sparse.csr_matrix((data, place[kept], indptr), shape=(counts.shape[0], n))
    listed.sum_duplicates()
    return listed


def _texts(obs: pd.DataFrame, name: str) -> np.ndarray:
    if name not in obs:
        return np.full(len(obs), UNKNOWN, object)
    column = obs[name].astype(object)
    return column.where(column.notna(), UNKNOWN).astype(str).replace("", UNKNOWN).to_numpy(object)
