"""Expression as integers 1..n_bins-1: for each non-zero count of a cell's genes, the bins that it may have, and one.

The edges are the n_bins-1 quantiles of the values at linspace(0, 1), as in scGPT's `binning` (Cui et al. 2024). With
lo = number of edges < x and hi = number of edges <= x, the bin of x is hi where lo == hi, else one of lo+1..hi.
"""

# ruff: noqa: PLR0917 - compiled kernels take plain arrays, by position

from dataclasses import dataclass, field, replace

import numba
import numpy as np

from censusformer import hashing

PLACE = 0xFFFFFFFF
COUNTED = 1024  # a cell whose counts are all below this has them sorted by counting
kernel = numba.njit(cache=True, nogil=True)
splitmix64 = numba.njit(hashing.splitmix64)


@kernel
def rank_bounds(n_below: int, n_up_to: int, n: int, n_edges: int) -> tuple[int, int]:
    """Compute lo and hi of a value among n, of which `n_below` are smaller and `n_up_to` are not larger.

    Edge i stands at rank i(n-1)/(n_edges-1), between two values it lies strictly between them, and so it is below x
    where i(n-1) < n_below·(n_edges-1), and not above x where i(n-1) <= (n_up_to-1)·(n_edges-1): integers alone.
    """
    if n == 1 or n_edges == 1:  # all edges are the smallest value
        return (0 if n_below == 0 else n_edges), n_edges
    steps = n_edges - 1
    return (n_below * steps + n - 2) // (n - 1), (n_up_to - 1) * steps // (n - 1) + 1


@kernel
def tied_bin(lo: int, hi: int, random: bool, prefix: np.uint64, gene_word: np.uint64) -> int:
    """One of the bins lo+1..hi: drawn uniformly from the hash of seed and cell (`prefix`) and gene, or the middle one.

    The draw takes the hash's upper 32 bits times the number of bins: unequal by less than one in 65,536.
    """
    if hi - lo <= 1:
        return hi
    if not random:
        return (lo + 1 + hi) // 2
    h = splitmix64(prefix ^ gene_word)
    return lo + 1 + np.int64(((h >> np.uint64(32)) * np.uint64(hi - lo)) >> np.uint64(32))


@kernel
def _gathered(indices, data, place_of, at, found):
    """List where in the row the chosen genes stand that it expresses, in their order, and which ones; return how many.

    `at` (int64, all 0, one a gene and one more, to which columns of other genes point) is left as it was. There is no
    branch that hangs on the data: sorting, or asking of each value, takes several times as long.
    """
    for j in range(len(data)):
        at[place_of[indices[j]]] = (j + 1) * (data[j] > 0)
    n, width = 0, len(at) - 1
    for p in range(width):
        found[0, n], found[1, n] = at[p] - 1, p
        n += at[p] > 0
        at[p] = 0
    at[width] = 0
    return n


@kernel
def _bounds_of_ranks(counts, n_edges, lo, hi, up_to):
    """Fill lo and hi of each of a cell's counts, from their ranks among them.

    `up_to` (int64, all 0, left so) is long enough for most cells: each count is looked up there, not searched.
    """
    n = len(counts)
    top = np.int64(counts.max()) if n else 0
    if top >= len(up_to):
        ordered = np.sort(counts)
        for t in range(n):
            below = np.searchsorted(ordered, counts[t])
            lo[t], hi[t] = rank_bounds(below, np.searchsorted(ordered, counts[t], side="right"), n, n_edges)
        return
    for t in range(n):
        up_to[counts[t]] += 1
    n_below = 0
    for x in range(top + 1):
        if up_to[x]:
            n_up_to = n_below + up_to[x]
            low, high = rank_bounds(n_below, n_up_to, n, n_edges)
            up_to[x] = low << 32 | high
            n_below = n_up_to
    for t in range(n):
        both = up_to[counts[t]]
        lo[t], hi[t] = both >> 32, both & PLACE
    up_to[: top + 1] = 0


@kernel
def _bounds_of_edges(values, edges, lo, hi):
    """Fill lo and hi of each of a cell's normalised values among edges that are given."""
    for t in range(len(values)):
        value = np.float64(values[t])
        lo[t] = np.searchsorted(edges, value)
        hi[t] = max(np.searchsorted(edges, value, side="right"), 1)  # 0 is a zero's


@kernel
def _bin_rows(
    indptr, indices, data, group, place_of, gene_at, cell, gene_words, n_edges, random, seed,
    edges, values, out_indptr, out_genes, out_bins, tie_var,
):  # fmt: skip
    width = gene_at.shape[1]
    at, found = np.zeros(width + 1, np.int64), np.empty((2, width + 1), np.int64)
    lo, hi, up_to = np.empty(width, np.int64), np.empty(width, np.int64), np.zeros(COUNTED, np.int64)
    seeded = splitmix64(seed)
    end = 0
    for i in range(len(indptr) - 1):
        if group[i] >= 0:
            row = slice(indptr[i], indptr[i + 1])
            n = _gathered(indices[row], data[row], place_of[group[i]], at, found)
            if len(edges):
                _bounds_of_edges(values[row][found[0, :n]], edges, lo, hi)
            else:
                _bounds_of_ranks(data[row][found[0, :n]], n_edges, lo, hi, up_to)
            prefix, spread = splitmix64(seeded ^ cell[i]), 0
            for t in range(n):
                gene = gene_at[group[i], found[1, t]]
                out_genes[end + t] = gene
                out_bins[end + t] = tied_bin(lo[t], hi[t], random, prefix, gene_words[gene])
                if random and hi[t] > lo[t]:
                    spread += (hi[t] - lo[t]) ** 2 - 1
            tie_var[i] = spread / (12 * max(n, 1))
            end += n
        out_indptr[i + 1] = end


def _places(gene_of: np.ndarray, group: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of a group's genes each column is, int32 (n_groups, n_columns), and these genes, int32 (n_groups, width).

    A column of no chosen gene is place `width`, the most genes of a group. Rows of groups without cells stay undefined.
    """
    width = int(chosen.sum(axis=1).max(initial=0))
    places = np.empty((len(chosen), len(gene_of)), np.int32)
    genes = np.empty((len(chosen), width), np.int32)
    known = np.flatnonzero(gene_of >= 0)
    for s in np.unique(group[group >= 0]).tolist():
        row = chosen[s]
        columns = known[row[gene_of[known]]]
        places[s] = width
        places[s, columns] = (np.cumsum(row) - 1)[gene_of[columns]]
        genes[s, : np.count_nonzero(row)] = np.flatnonzero(row)
    return places, genes


@dataclass(frozen=True)
class Binning:
    """How to bin.

    Parameters
    ----------
    n_bins
        Bins are 1..n_bins-1; 0 is for zeros, which are not stored.
    ties
        `random` or `middle`: which bin a value gets that equals several edges.
    seed
        Of the draws among them.
    edges
        float64 (n_bins-1,), ascending: the same for all cells, of normalised values; empty: each cell's own quantiles.
    """

    n_bins: int
    ties: str = "random"
    seed: int = 0
    edges: np.ndarray = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class Binned:
    """Binned rows: CSR arrays with columns in ascending order, and each row's variance from the draws among ties.

    `indptr` int64 (n+1,), `genes` int32 and `bins` uint16 (nnz,), `tie_var` float32 (n,): the mean over the row's
    values of ((hi-lo)² - 1)/12, 0 where lo == hi or nothing is drawn.
    """

    indptr: np.ndarray
    genes: np.ndarray
    bins: np.ndarray
    tie_var: np.ndarray


def bin_rows(
    csr: tuple[np.ndarray, np.ndarray, np.ndarray],
    gene_of: np.ndarray,
    group: np.ndarray,
    chosen: np.ndarray,
    *,
    cell: np.ndarray,
    gene_words: np.ndarray,
    how: Binning,
    values: np.ndarray | None = None,
) -> Binned:
    """Bin the counts of CSR rows; neither the order of the rows nor that of the columns matters.

    Parameters
    ----------
    csr
        indptr (int64, from 0), indices, data (unsigned counts below 2**32).
    gene_of
        int32: the gene of each column, -1 for none.
    group
        int32 (n,): each row's list of genes, -1 for a row without values.
    chosen
        bool (n_groups, n_genes): the genes of each list.
    cell
        uint64 (n,): the cells' keys.
    gene_words
        uint64 (n_genes,): the words of the gene ids (`hashing.words`).
    how
        The settings.
    values
        float32 (nnz,): normalised values in the place of the counts, which `how.edges` need.
    """
    indptr, indices, data = csr
    out = Binned(
        np.zeros(len(indptr), np.int64),
        np.empty(len(data), np.int32),
        np.empty(len(data), np.uint16),
        np.zeros(len(group), np.float32),
    )
    _bin_rows(
        indptr, indices, data, group, *_places(gene_of, group, chosen), cell, gene_words,
        how.n_bins - 1, how.ties == "random",
        np.uint64(how.seed), how.edges, np.empty(0, np.float32) if values is None else values,
        out.indptr, out.genes, out.bins, out.tie_var,
    )  # fmt: skip
    n = out.indptr[-1]
    return replace(out, genes=out.genes[:n].copy(), bins=out.bins[:n].copy())
