"""Exact quantiles of more values than fit in memory: the edges of bins that are the same for the entire matrix.

Non-negative float32 values have the order of their bit patterns. A first pass over them counts the upper 16 bits, which
tells where each wanted rank lies; a second counts the lower 16 bits there.
"""

# ruff: noqa: PLR0917 - compiled kernels take plain arrays, by position

import numba
import numpy as np

LOW = 2**16


@numba.njit(cache=True, nogil=True)
def _fill(indptr, indices, values, gene_of, group, chosen, out):
    n = 0
    for i in range(len(indptr) - 1):
        if group[i] < 0:
            continue
        for j in range(indptr[i], indptr[i + 1]):
            gene = gene_of[indices[j]]
            if gene >= 0 and chosen[group[i], gene] and values[j] > 0:
                out[n] = values[j]
                n += 1
    return n


def chosen_values(
    csr: tuple[np.ndarray, np.ndarray, np.ndarray], gene_of: np.ndarray, group: np.ndarray, chosen: np.ndarray
) -> np.ndarray:
    """Values over 0 of each row's chosen genes, float32 (n_values,).

    Parameters
    ----------
    csr
        indptr (int64, from 0), indices, normalised values.
    gene_of, group, chosen
        As in `binning.bin_rows`.
    """
    out = np.empty(len(csr[2]), np.float32)
    return out[: _fill(*csr, gene_of, group, chosen, out)]


def count_upper(values: np.ndarray, counts: np.ndarray) -> None:
    """Add non-negative float32 values to `counts`, int64 (65536,), by the upper half of their bits."""
    counts += np.bincount(values.view(np.uint32) >> 16, minlength=LOW)


def wanted_ranks(n: int, n_edges: int) -> tuple[np.ndarray, np.ndarray]:
    """Rank below each edge, and the rest of i(n-1)/(n_edges-1) in units of 1/(n_edges-1), int64 (n_edges,)."""
    return np.divmod(np.arange(n_edges, dtype=np.int64) * (n - 1), max(n_edges - 1, 1))


def wanted_upper(counts: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Upper halves, ascending, that hold the values of these ranks or of the ones after."""
    ends, last = np.cumsum(counts), counts.sum() - 1
    both = np.concatenate([ranks, np.minimum(ranks + 1, last)])
    return np.unique(np.searchsorted(ends, both, side="right"))


def count_lower(values: np.ndarray, upper: np.ndarray, counts: np.ndarray) -> None:
    """Add the values in wanted upper halves to `counts`, int64 (n_upper, 65536), by the lower half of their bits."""
    bits = values.view(np.uint32)
    bits = bits[np.isin(bits >> 16, upper)]
    found, n = np.unique(bits, return_counts=True)
    counts[np.searchsorted(upper, found >> 16), found & (LOW - 1)] += n


def edges_of(upper_counts: np.ndarray, upper: np.ndarray, lower_counts: np.ndarray, n_edges: int) -> np.ndarray:
    """Compute quantiles at linspace(0, 1, n_edges), linear between ranks, float64 (n_edges,).

    An edge between two different values lies strictly between them in float64 and one on a rank equals its value, so
    that comparing float32 values with edges is exact.
    """
    below, rest = wanted_ranks(int(upper_counts.sum()), n_edges)
    first = np.cumsum(upper_counts) - upper_counts  # rank of the first value of each upper half

    def value(rank: np.ndarray) -> np.ndarray:
        half = np.searchsorted(first + upper_counts, rank, side="right")
        row = np.searchsorted(upper, half)
        ends = np.cumsum(lower_counts, axis=1)
        low = [np.searchsorted(ends[r], k, side="right") for r, k in zip(row, rank - first[half], strict=True)]
        return ((half << 16) + np.array(low)).astype(np.uint32).view(np.float32).astype(np.float64)

    steps = max(n_edges - 1, 1)
    a, b = value(below), value(np.minimum(below + 1, upper_counts.sum() - 1))
    return (a * (steps - rest) + b * rest) / steps
