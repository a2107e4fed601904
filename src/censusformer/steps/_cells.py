"""Matching tables by the cells' keys, which are uint64 and never pass through a float."""

import numpy as np


def rows_of(keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the row of each wanted key.

    Parameters
    ----------
    keys
        uint64 (n,): the keys of a table, in any order.
    wanted
        uint64 (m,).

    Returns
    -------
    int64 (m,), a row of `keys` (any where there is none), and bool (m,), whether the key was found.
    """
    if not len(keys):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    order = np.argsort(keys, kind="stable")
    rows = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    return rows, keys[rows] == wanted
