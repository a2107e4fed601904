"""What a gene embedding knows: neighbours, known markers, and how often a gene was trained."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from censusformer.evaluation.scores import MIN_SAMPLES, quantiles, times
from censusformer.hashing import draw, word

NEIGHBOURS = 10
MIN_TRAINED = 20  # training cells that a gene needs to be compared: before, its vector is mostly its initial draw
MIN_SET, DRAWS, STRATA = 3, 1000, 10
FREQUENCIES = (1, 10, 100, 1000, 10000, 100000)  # lower ends of the classes of training cells that show a gene
_SETS = word("censusformer: genes drawn in the place of markers")


class Enrichment(NamedTuple):
    """A statistic of markers beside genes drawn in their place, which are shown as often in training cells."""

    name: str  # the set, or `all`
    metric: str
    value: float
    expected: float  # mean over 1,000 draws
    low: float  # 2.5 %
    high: float  # 97.5 %
    p: float  # (1 + draws that reach the value) / (1 + draws)
    n: int  # markers that were compared


def unit_vectors(vectors: np.ndarray, compared: np.ndarray) -> np.ndarray:
    """Centre vectors on the mean of the compared genes and scale them to length 1, float32 (genes, d)."""
    centred = vectors - vectors[compared].mean(0, keepdims=True)
    return (centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def nearest(unit: np.ndarray, compared: np.ndarray, k: int = NEIGHBOURS) -> tuple[np.ndarray, np.ndarray]:
    """Find the k nearest genes of each compared gene by cosine, among compared genes.

    Parameters
    ----------
    unit
        float32 (genes, d), of `unit_vectors`.
    compared
        bool (genes,).

    Returns
    -------
    int64 (m, k) genes and float32 (m, k) cosines, nearest first, for the m compared genes in their order.
    """
    genes = np.flatnonzero(compared)
    k, part = min(k, len(genes) - 1), unit[genes]
    if k < 1:
        return np.empty((len(genes), 0), np.int64), np.empty((len(genes), 0), np.float32)
    near, cosines = [], []
    for start in range(0, len(genes), 1024):
        similar = part[start : start + 1024] @ part.T
        similar[np.arange(len(similar)), start + np.arange(len(similar))] = -np.inf
        best = np.argsort(-similar, axis=1, kind="stable")[:, :k]
        near.append(genes[best])
        cosines.append(np.take_along_axis(similar, best, 1))
    return np.concatenate(near), np.concatenate(cosines)


def enrichment(
    unit: np.ndarray, compared: np.ndarray, n_cells: np.ndarray, sets: Mapping[str, np.ndarray]
) -> Iterator[Enrichment]:
    """Compare the markers of each set with genes drawn in their place.

    Parameters
    ----------
    unit, compared
        As for `nearest`.
    n_cells
        int (genes,): training cells that show each gene; drawn genes come from the same tenth.
    sets
        The genes of each set, int64; those that are not compared are left out, sets of fewer than three with them.

    Yields
    ------
    For each set the mean cosine of its pairs, and for all together the share of markers whose nearest other marker is
    of their own set.
    """
    sets = {name: genes[compared[genes]] for name, genes in sets.items()}
    sets = {name: genes for name, genes in sets.items() if len(genes) >= MIN_SET}
    if not sets:
        return
    label = np.repeat(np.arange(len(sets)), [len(genes) for genes in sets.values()])
    markers = np.concatenate(list(sets.values()))
    drawn = drawn_in_place(markers, compared, n_cells)
    for number, name in enumerate(sets):
        value, others = _pairs(unit[markers[label == number]]), _pairs(unit[drawn[:, label == number]])
        yield _compare(name, "similarity", value, others, int((label == number).sum()))
    if len(sets) > 1:
        others = np.array([_same_set(unit[genes], label) for genes in drawn])
        yield _compare("all", "nearest_marker", _same_set(unit[markers], label), others, len(markers))


def drawn_in_place(markers: np.ndarray, compared: np.ndarray, n_cells: np.ndarray) -> np.ndarray:
    """Draw a compared gene in the place of each marker, 1,000 times: int64 (1000, markers).

    It is one of the same tenth of all compared genes by training cells, since vectors of rare genes are alike in being
    hardly trained. No draw takes a gene twice from one tenth unless it is small.
    """
    genes = np.flatnonzero(compared)
    ranked = genes[np.argsort(n_cells[genes], kind="stable")]
    tenth = np.empty(len(n_cells), np.int64)
    tenth[ranked] = np.arange(len(ranked)) * STRATA // len(ranked)
    drawn = np.empty((DRAWS, len(markers)), np.int64)
    for k in np.unique(tenth[markers]):
        here, pool = tenth[markers] == k, ranked[tenth[ranked] == k]
        order = np.argsort(draw(_SETS, int(k), np.arange(DRAWS)[:, None], pool), axis=1, kind="stable")
        drawn[:, here] = pool[order[:, np.arange(here.sum()) % len(pool)]]
    return drawn


def _pairs(unit: np.ndarray) -> np.ndarray:
    """Mean cosine of all pairs of n unit vectors, (..., n, d) -> (...)."""
    n = unit.shape[-2]
    return ((unit.sum(-2) ** 2).sum(-1) - n) / (n * (n - 1))


def _same_set(unit: np.ndarray, label: np.ndarray) -> float:
    """Share of vectors whose nearest other one has the same label."""
    similar = unit @ unit.T
    np.fill_diagonal(similar, -np.inf)
    return float((label[similar.argmax(1)] == label).mean())


def _compare(name: str, metric: str, value: float, others: np.ndarray, n: int) -> Enrichment:
    low, high = quantiles(others)
    p = (1 + int((others >= value).sum())) / (1 + len(others))
    return Enrichment(name, metric, float(value), float(others.mean()), low, high, p, n)


def frequency_classes(n_cells: np.ndarray) -> np.ndarray:
    """Class of each gene by the training cells that show it: 0 for none, 1 for 1 to 9, 2 for 10 to 99, ..."""
    return np.searchsorted(FREQUENCIES, n_cells, side="right")


def error_by_frequency(
    squared: Mapping[str, np.ndarray], gene: np.ndarray, sample: np.ndarray, n_cells: np.ndarray
) -> pd.DataFrame:
    """Mean squared error by how often a gene was trained.

    Parameters
    ----------
    squared
        float (M,) by predictor: squared errors at masked positions, in bins².
    gene, sample
        int (M,): whose.
    n_cells
        int (genes,): training cells that show each gene.

    Returns
    -------
    Columns at_least, below (training cells; NaN: no limit), n_genes, n, predictor, mse, low, high; intervals draw
    samples anew, and are NaN below five samples.
    """
    of_gene = frequency_classes(n_cells)
    _, sample = np.unique(sample, return_inverse=True)
    shape = int(sample.max(initial=0)) + 1, len(FREQUENCIES) + 1
    place = sample * shape[1] + of_gene[gene]
    counts = np.bincount(place, minlength=shape[0] * shape[1]).reshape(shape)
    ends = [0, *FREQUENCIES, np.nan]
    rows = []
    for name, errors in squared.items():
        sums = np.bincount(place, errors, shape[0] * shape[1]).reshape(shape)
        for k in np.flatnonzero(counts.sum(0)):
            low, high = _interval(sums[:, k], counts[:, k])
            n_genes, n = len(np.unique(gene[of_gene[gene] == k])), int(counts[:, k].sum())
            rows.append((ends[k], ends[k + 1], n_genes, n, name, sums[:, k].sum() / n, low, high))
    columns = ["at_least", "below", "n_genes", "n", "predictor", "mse", "low", "high"]
    return pd.DataFrame(rows, columns=columns).astype({"at_least": np.int64, "below": np.float64})


def _interval(sums: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    sums, counts = sums[counts > 0], counts[counts > 0]
    if len(sums) < MIN_SAMPLES:
        return float("nan"), float("nan")
    drawn = times(len(sums))
    return quantiles((drawn @ sums) / (drawn @ counts))
