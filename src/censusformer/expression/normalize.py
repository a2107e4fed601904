"""Counts scaled to the same total in each cell, and their logarithm.

As scanpy's `pp.normalize_total` and `pp.log1p`, value by value, so that kernels over CSR rows need no second matrix.
"""

import math

import numba


@numba.njit(cache=True, nogil=True)
def normalised(count: int, total: int, target_sum: float, log1p: bool) -> float:
    """One count x of a cell with `total` counts: x · target_sum / total, then log(1 + that) if `log1p`.

    The product comes first: it is exact for counts and round targets, so that equal shares of two cells' totals give
    equal values.
    """
    value = count * target_sum / total
    return math.log1p(value) if log1p else value
