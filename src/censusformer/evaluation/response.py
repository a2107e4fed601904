"""Responses to a stimulation: means by group, the additive baseline, and scores over persons."""

from typing import NamedTuple

import numpy as np
from scipy import sparse

from censusformer.evaluation.annotation import MIN_PERSONS, Score, drawn


class Groups(NamedTuple):
    """Cells of one person and one state, by condition.

    Parameters
    ----------
    person, state
        int (g,).
    n_control, n_stimulated
        int (g,), cells.
    control, stimulated
        float (g, n_genes), mean expression; NaN without cells.
    of
        int (n,), the group of each cell.
    """

    person: np.ndarray
    state: np.ndarray
    n_control: np.ndarray
    n_stimulated: np.ndarray
    control: np.ndarray
    stimulated: np.ndarray
    of: np.ndarray


def grouped(values: sparse.csr_matrix, person: np.ndarray, state: np.ndarray, stimulated: np.ndarray) -> Groups:
    """Means of (n, n_genes) values by person and state, int (n,) each, apart for stimulated cells, bool (n,)."""
    pairs, of = np.unique(np.stack([person, state], 1), axis=0, return_inverse=True)
    of, n = of.ravel(), len(pairs)
    counts, means = [], []
    for here in (~stimulated, stimulated):
        rows = np.flatnonzero(here)
        member = sparse.csr_matrix((np.ones(len(rows)), (of[rows], rows)), shape=(n, len(of)))
        counts.append(np.bincount(of[rows], minlength=n))
        totals, cells = (member @ values).toarray(), counts[-1][:, None]
        means.append(np.divide(totals, cells, out=np.full(totals.shape, np.nan), where=cells > 0))
    return Groups(pairs[:, 0], pairs[:, 1], *counts, *means, of)


def additive(shifts: np.ndarray, state: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """Baseline: the mean shift of other persons' groups of the same state, or of all states where none is known.

    Parameters
    ----------
    shifts
        float (g, n_genes).
    state
        int (g,).
    fitted
        bool (g,): groups of the persons to learn from.

    Returns
    -------
    float (g, n_genes).
    """
    out = np.repeat(shifts[fitted].mean(0)[None], len(shifts), 0)
    for s in np.unique(state[fitted]):
        out[state == s] = shifts[fitted & (state == s)].mean(0)
    return out


def by_person(errors: np.ndarray, person: np.ndarray) -> np.ndarray:
    """Mean over each person's groups, float (n_persons,)."""
    _, of = np.unique(person, return_inverse=True)
    return np.bincount(of, errors) / np.bincount(of)


def mean_over_persons(values: np.ndarray) -> Score:
    """Mean of one value a person, with the 95 % interval that draws persons anew (from five on)."""
    if len(values) < MIN_PERSONS:
        return Score(float(values.mean()), None, None)
    times = drawn(len(values))
    low, high = np.quantile(times @ values / len(values), [0.025, 0.975])
    return Score(float(values.mean()), float(low), float(high))


def correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pearson correlation row by row, float (g,); 0 where a row does not vary."""
    a, b = (x - x.mean(1, keepdims=True) for x in (one, other))
    below = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.divide((a * b).sum(1), below, out=np.zeros(len(a)), where=below > 1e-12)
