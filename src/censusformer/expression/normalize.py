"""Counts scaled to the same total in each cell, and their logarithm."""

import numpy as np


def normalised(
    indptr: np.ndarray, data: np.ndarray, total: np.ndarray, *, target_sum: float, log1p: bool
) -> np.ndarray:
    """Normalise CSR rows, as scanpy's `pp.normalize_total` and `pp.log1p` do: x · target_sum / total, then log(1 + x).

    The product comes first: it is exact for counts and round targets, so that equal shares of two cells' totals give
    equal values.

    Parameters
    ----------
    indptr
        int64 (n+1,), from 0.
    data
        Counts (nnz,).
    total
        int64 (n,): the cells' counts over the kept genes; a cell without any is left as it is.
    target_sum
        The total after scaling.
    log1p
        Whether the logarithm follows.

    Returns
    -------
    float64 (nnz,).
    """
    values = data * float(target_sum)
    values /= np.repeat(np.where(total > 0, total, target_sum), np.diff(indptr))
    return np.log1p(values, out=values) if log1p else values
