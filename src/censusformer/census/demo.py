"""The demo census: new cells, drawn by resampling and thinning real ones.

A new cell keeps some of the molecules of one real cell, each by its own draw, so that genes keep the correlations that
they have in real cells. How likely a molecule is kept depends on the new cell's depth and on the gene's effect in its
dataset and in its donor. Each real cell serves one donor of one dataset, so that no test sample shares cells with a
training sample. Every draw is a hash of what it concerns: the same seed gives the same counts on any machine and with
any release of numpy.

In the census stands what real ones bring along, too: a tissue that the query leaves out, copies with `is_primary_data`
False, a donor called `unknown`, a sample below the minimum size, one person in two datasets, poor cells, and datasets
that measured different genes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.special import ndtri

from censusformer.census.parts import Part
from censusformer.census.real_cells import RealCells
from censusformer.hashing import draw, uniform, word, words

MAX_SHARE = 0.7  # of a real cell's molecules, each with this chance at most
POOR_CELLS, POOR_SHARE = 0.01, 0.01
_DEPTH_SD, _DATASET_SD, _DONOR_SD, _DONOR_DEPTH_SD = 0.3, 0.35, 0.25, 0.12  # of natural logarithms
_TYPES_SD = 0.6  # how far donors differ in their cells' types
_UNMEASURED = 0.06  # of the genes, in datasets with a shorter list

# cell types of pbmc68k_reduced in the Cell Ontology's terms
CELL_TYPES = {
    "CD14+ Monocyte": ("CD14-positive monocyte", "CL:0001054"),
    "CD19+ B": ("B cell", "CL:0000236"),
    "CD34+": ("hematopoietic precursor cell", "CL:0008001"),
    "CD4+/CD25 T Reg": ("CD4-positive, CD25-positive, alpha-beta regulatory T cell", "CL:0000792"),
    "CD4+/CD45RA+/CD25- Naive T": ("naive thymus-derived CD4-positive, alpha-beta T cell", "CL:0000895"),
    "CD4+/CD45RO+ Memory": ("CD4-positive, alpha-beta memory T cell", "CL:0000897"),
    "CD56+ NK": ("natural killer cell", "CL:0000623"),
    "CD8+ Cytotoxic T": ("CD8-positive, alpha-beta cytotoxic T cell", "CL:0000794"),
    "CD8+/CD45RA+ Naive Cytotoxic": ("naive thymus-derived CD8-positive, alpha-beta T cell", "CL:0000900"),
    "Dendritic": ("dendritic cell", "CL:0000451"),
}
TISSUES = {"blood": "UBERON:0000178", "bone marrow": "UBERON:0002371"}


COLLECTIONS = {
    "demo-one": "Demo: 3' libraries",
    "demo-two": "Demo: 5' libraries and bone marrow",
    "demo-three": "Demo: copies",
}
CITATION = "Drawn by censusformer from the 559 human immune cells that celltypist ships (Dominguez Conde et al. 2022)"


@dataclass(frozen=True)
class Dataset:
    """A dataset to draw: its donors with their numbers of cells, and the share of molecules that its cells keep."""

    dataset_id: str
    collection: str
    assay: tuple[str, str]
    share: float
    donors: Mapping[str, int]
    tissue: str = "blood"
    short_list: bool = False  # it did not measure every gene
    copy_of: str = ""  # its cells are those of this dataset's donors once more


_V2, _V3, _FIVE = ("10x 3' v2", "EFO:0009899"), ("10x 3' v3", "EFO:0009922"), ("10x 5' v1", "EFO:0011025")
_DONORS_V2 = {"D01": 420, "D02": 300, "D03": 360, "D04": 260, "D05": 480, "D06": 340, "D07": 220}
# D07 gave blood for two datasets of one collection: one person
_DONORS_V3 = {"D07": 240, "D08": 400, "D09": 320, "D10": 280, "D11": 460, "D12": 360, "D13": 300}
_DONORS_FIVE = {"P1": 380, "P2": 330, "P3": 270, "P4": 440, "P5": 350, "P6": 290, "P7": 30, "unknown": 120}
DATASETS = (
    Dataset("demo-3prime-v2", "demo-one", _V2, 0.13, _DONORS_V2),
    Dataset("demo-3prime-v3", "demo-one", _V3, 0.18, _DONORS_V3),
    Dataset("demo-5prime", "demo-two", _FIVE, 0.14, _DONORS_FIVE, short_list=True),
    Dataset("demo-marrow", "demo-two", _V3, 0.18, {"M1": 260}, tissue="bone marrow"),
    Dataset("demo-reanalysis", "demo-three", _FIVE, 0.14, {"P2": 330}, short_list=True, copy_of="demo-5prime"),
)


@dataclass(frozen=True)
class Sample:
    """The new cells of one donor of one dataset: counts (cells, genes) and the real cell behind each (row)."""

    donor: str
    counts: sparse.csr_matrix
    source: np.ndarray


def demo_parts(real: RealCells, seed: int = 0) -> Iterator[Part]:
    """The demo's datasets, ready for `layout.write_census`."""
    names = [(dataset.dataset_id, donor) for dataset in DATASETS if not dataset.copy_of for donor in dataset.donors]
    pools = deal(real.labels, names, seed)
    for dataset in DATASETS:
        drawn = _home(dataset)
        pool = {donor: pools[drawn.dataset_id, donor] for donor in dataset.donors}
        samples = [draw_sample(real, pool[donor], drawn, donor, seed) for donor in dataset.donors]
        yield _part(real, dataset, samples, measured_genes(real, drawn, seed))


def deal(labels: np.ndarray, samples: list[tuple[str, str]], seed: int) -> dict[tuple[str, str], np.ndarray]:
    """Deal the real cells out to the samples: each cell to one sample, each type as evenly as it goes.

    Returns
    -------
    The rows of the real cells of each sample, about as many for each.
    """
    order = np.lexsort((draw(seed, word("deal"), np.arange(len(labels))), labels))
    return {sample: np.sort(order[place :: len(samples)]) for place, sample in enumerate(samples)}


def draw_sample(real: RealCells, pool: np.ndarray, dataset: Dataset, donor: str, seed: int) -> Sample:
    """Draw the new cells of a donor from its pool of real cells."""
    key = draw(seed, word(dataset.dataset_id), word(donor))[0]
    cells = draw(key, np.arange(dataset.donors[donor]))
    source = pick(real.labels[pool], cells, key)
    # a person keeps its genes' effects and depth in every dataset
    person = draw(seed, word(dataset.collection), word(donor))[0]
    effects = gene_effects(real.gene_words, seed, dataset.dataset_id, person)
    depth = _DONOR_DEPTH_SD * normal(draw(person, word("depth"))) + _DEPTH_SD * normal(draw(cells, word("depth")))
    share = np.minimum(dataset.share * np.exp(depth), MAX_SHARE)
    share[uniform(draw(cells, word("poor"))) < POOR_CELLS] = POOR_SHARE
    counts = thin(real.counts[pool], source, share=share, effects=effects, cells=cells, gene_words=real.gene_words)
    return Sample(donor, counts, pool[source])


def pick(labels: np.ndarray, cells: np.ndarray, key: int) -> np.ndarray:
    """The real cell (its place in `labels`) behind each new cell; a donor has a taste of its own for each type."""
    types = words(labels)
    weight = np.exp(_TYPES_SD * normal(draw(key, word("types"), types)))
    edges = np.cumsum(weight) / weight.sum()
    return np.minimum(np.searchsorted(edges, uniform(draw(cells, word("source"))), side="right"), len(labels) - 1)


def gene_effects(gene_words: np.ndarray, seed: int, dataset_id: str, person: int) -> np.ndarray:
    """How much more or less likely a gene's molecules are kept in a dataset and in a person: factors, log-normal."""
    dataset = _DATASET_SD * normal(draw(seed, word(dataset_id), word("effect"), gene_words))
    return np.exp(dataset + _DONOR_SD * normal(draw(person, word("effect"), gene_words)))


def thin(
    counts: sparse.csr_matrix,
    source: np.ndarray,
    *,
    share: np.ndarray,
    effects: np.ndarray,
    cells: np.ndarray,
    gene_words: np.ndarray,
) -> sparse.csr_matrix:
    """Keep each molecule of a real cell by its own draw, hash(cell, gene, number of the molecule).

    Parameters
    ----------
    counts
        Real cells, (real cells, genes).
    source, share, cells
        Of each new cell: the row of `counts`, the mean share of molecules to keep, its key (uint64).
    effects, gene_words
        Of each gene: the factor on the share (its mean over a cell's molecules is made 1), its word (uint64).

    Returns
    -------
    New cells, (cells, genes), int64. No molecule is kept with a chance above `MAX_SHARE`.
    """
    rows, columns, values = [], [], []
    for real in np.unique(source):
        new = np.flatnonzero(source == real)
        span = slice(counts.indptr[real], counts.indptr[real + 1])
        genes, n = counts.indices[span], counts.data[span]
        starts = np.cumsum(n) - n
        molecules = draw(np.repeat(gene_words[genes], n), np.arange(n.sum()) - np.repeat(starts, n))
        factor = effects[genes] / np.average(effects[genes], weights=n)
        chance = np.minimum(share[new, None] * factor, MAX_SHARE)
        drawn = uniform(draw(cells[new, None], molecules)) < np.repeat(chance, n, axis=1)
        kept = np.add.reduceat(drawn, starts, axis=1, dtype=np.int64)
        row, column = np.nonzero(kept)
        rows.append(new[row])
        columns.append(genes[column])
        values.append(kept[row, column])
    where = (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_matrix((np.concatenate(values), where), shape=(len(source), counts.shape[1]))


def measured_genes(real: RealCells, dataset: Dataset, seed: int) -> np.ndarray:
    """Which genes a dataset measured (bool): those with a shorter list lack some, chosen by their ids."""
    if not dataset.short_list:
        return np.ones(len(real.feature_id), bool)
    return uniform(draw(seed, word(dataset.dataset_id), word("measured"), real.gene_words)) >= _UNMEASURED


def normal(h: np.ndarray) -> np.ndarray:
    """Hashes as standard normal numbers."""
    return ndtri(np.maximum(uniform(h), 2.0**-53))


def _part(real: RealCells, dataset: Dataset, samples: list[Sample], measured: np.ndarray) -> Part:
    genes = np.flatnonzero(measured)
    obs = pd.concat([_obs(real, dataset, sample) for sample in samples], ignore_index=True)
    var = pd.DataFrame({"feature_id": real.feature_id[genes], "feature_name": real.feature_name[genes]})
    about = {
        "dataset_id": dataset.dataset_id,
        "dataset_title": f"Demo: {dataset.tissue}, {dataset.assay[0]}",
        "collection_id": dataset.collection,
        "collection_name": COLLECTIONS[dataset.collection],
        "citation": CITATION,
    }
    return Part(about, obs, var, sparse.vstack([sample.counts for sample in samples], format="csr")[:, genes])


def _obs(real: RealCells, dataset: Dataset, sample: Sample) -> pd.DataFrame:
    names, terms = np.array([CELL_TYPES[label] for label in real.labels[sample.source]]).T
    known = sample.donor != "unknown"
    return pd.DataFrame(
        {
            "observation_joinid": [f"{sample.donor}-{number:04d}" for number in range(len(names))],
            "donor_id": sample.donor,
            "person": f"{_home(dataset).collection}:{sample.donor}" if known else "unknown",
            "cell_type": names,
            "cell_type_ontology_term_id": terms,
            "assay": dataset.assay[0],
            "assay_ontology_term_id": dataset.assay[1],
            "disease": "normal",
            "disease_ontology_term_id": "PATO:0000461",
            "tissue": dataset.tissue,
            "tissue_ontology_term_id": TISSUES[dataset.tissue],
            "tissue_general": dataset.tissue,
            "tissue_general_ontology_term_id": TISSUES[dataset.tissue],
            "is_primary_data": not dataset.copy_of,
            "source_cell": real.names[sample.source],
        }
    )


def _home(dataset: Dataset) -> Dataset:
    """The dataset that the cells come from."""
    return next(home for home in DATASETS if home.dataset_id == (dataset.copy_of or dataset.dataset_id))
