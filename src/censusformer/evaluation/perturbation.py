"""Whether a perturbation moves more than perturbations of other genes do."""

import numpy as np


def matched(n_cells: np.ndarray, gene: int, candidates: np.ndarray, n: int) -> np.ndarray:
    """Genes that about as many cells show as show this one: what it is compared with.

    Parameters
    ----------
    n_cells
        int (n_genes,): cells that show each gene.
    gene
        The gene; never among those returned.
    candidates
        int (k,): genes to choose from.
    n
        How many, at most.

    Returns
    -------
    int (<= n,), the nearest by the ratio of numbers of cells, the nearest first; ties go to the lower gene.
    """
    others = candidates[(candidates != gene) & (n_cells[candidates] > 0)]
    distance = np.abs(np.log(n_cells[others]) - np.log(max(1, n_cells[gene])))
    return others[np.lexsort((others, distance))][:n]


def p_values(observed: np.ndarray, null: np.ndarray) -> np.ndarray:
    """(1 + draws at least as far from zero) / (1 + draws): observed (...), null (draws, ...), NaN where not known."""
    known = np.isfinite(null)
    reached = (known & (np.abs(null) >= np.abs(observed))).sum(0)
    found = (1 + reached) / (1 + known.sum(0))
    return np.where(np.isfinite(observed), found, np.nan)


def q_values(p: np.ndarray) -> np.ndarray:
    """False discovery rates (Benjamini and Hochberg 1995) of p-values (n,); NaN where p is."""
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(-p[known], kind="stable")]
    n = len(order)
    q = np.full(len(p), np.nan)
    q[order] = np.minimum(1, np.minimum.accumulate(p[order] * n / np.arange(n, 0, -1)))
    return q


def toward(move: np.ndarray, start: np.ndarray, centroids: np.ndarray) -> tuple[int, float]:
    """The centroid to which a move leads most directly, by the cosine of the move with the way there.

    Parameters
    ----------
    move, start
        float (d,).
    centroids
        float (k, d).

    Returns
    -------
    Its number and the cosine; (-1, 0) where there is nowhere to go.
    """
    ways = centroids - start
    lengths = np.linalg.norm(ways, axis=1) * np.linalg.norm(move)
    cosines = np.divide(ways @ move, lengths, out=np.full(len(ways), -np.inf), where=lengths > 1e-12)
    best = int(np.argmax(cosines)) if len(cosines) else -1
    return (best, float(cosines[best])) if best >= 0 and np.isfinite(cosines[best]) else (-1, 0.0)
