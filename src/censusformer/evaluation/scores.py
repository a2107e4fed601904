"""Scores of predictions at masked positions, as sums by sample: what is added up over samples or mask ratios."""

from collections.abc import Callable
from functools import cache

import numpy as np

from censusformer.hashing import draw, word

MIN_CELL, MIN_GENE = 3, 10  # masked positions that a rank correlation of a cell, of a gene needs
MIN_SAMPLES, DRAWS = 5, 1000  # samples that an interval needs, and how often they are drawn
_BOOTSTRAP = word("censusformer bootstrap over samples")

COLUMNS = ("n", "y", "yy", "squared", "absolute", "rho", "n_rho", "gene_mean", "ties")
_N, _Y, _YY, _SQUARED, _ABSOLUTE, _RHO, _N_RHO, _GENE_MEAN, _TIES = range(len(COLUMNS))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=np.asarray(below) > 0)


def mse(sums: np.ndarray) -> np.ndarray:
    """Mean squared error over masked positions, in bins²; sums (..., 9), as `COLUMNS` names them."""
    return _ratio(sums[..., _SQUARED], sums[..., _N])


def mae(sums: np.ndarray) -> np.ndarray:
    """Mean absolute error over masked positions, in bins."""
    return _ratio(sums[..., _ABSOLUTE], sums[..., _N])


def r2(sums: np.ndarray) -> np.ndarray:
    """1 - squared error over squared distance from the mean of the masked bins themselves."""
    n = sums[..., _N]
    return 1 - _ratio(sums[..., _SQUARED], sums[..., _YY] - _ratio(sums[..., _Y] ** 2, n))


def spearman_cell(sums: np.ndarray) -> np.ndarray:
    """Spearman's correlation within a cell's masked positions, mean over cells (see `cell_correlations`)."""
    return _ratio(sums[..., _RHO], sums[..., _N_RHO])


def reducible_removed(sums: np.ndarray) -> np.ndarray:
    """Share of the per-gene mean's reducible error that is gone: (gene_mean - mse) / (gene_mean - tie_floor).

    1 at the floor that random ties put under any predictor, 0 at the per-gene mean, negative above it.
    """
    return _ratio(sums[..., _GENE_MEAN] - sums[..., _SQUARED], sums[..., _GENE_MEAN] - sums[..., _TIES])


def tie_floor(sums: np.ndarray) -> np.ndarray:
    """Expected squared error of a predictor that knows everything but the draws among tied bins, in bins²."""
    return _ratio(sums[..., _TIES], sums[..., _N])


METRICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mse": mse,
    "mae": mae,
    "r2": r2,
    "spearman_cell": spearman_cell,
    "reducible_removed": reducible_removed,
}


def counted(metric: str, sums: np.ndarray) -> int:
    """Return what a metric is a mean over: cells for `spearman_cell`, masked positions for the others."""
    return int(sums[..., _N_RHO if metric == "spearman_cell" else _N].sum())


def sums_by_sample(
    predicted: np.ndarray,
    target: np.ndarray,
    cell: np.ndarray,
    *,
    gene_mean: np.ndarray,
    tie_var: np.ndarray,
    sample: np.ndarray,
    n_samples: int,
) -> np.ndarray:
    """Add up by sample what the metrics are made of.

    Parameters
    ----------
    predicted, target, gene_mean
        (M,): predictions, bins, and the per-gene mean's predictions.
    cell
        int64 (M,): the cell of each masked position.
    tie_var
        (n,): the variance that draws among tied bins put on a token, mean over the cell's tokens.
    sample, n_samples
        int (n,): the sample of each cell, 0..n_samples-1.

    Returns
    -------
    float64 (n_samples, 9).
    """
    target, predicted = target.astype(np.float64), predicted.astype(np.float64)
    error = predicted - target
    owner = sample[cell]
    rho = cell_correlations(predicted, target, cell, len(sample))
    ranked = ~np.isnan(rho)
    by_token = [np.ones(len(target)), target, target**2, error**2, np.abs(error)]
    columns = [np.bincount(owner, x, n_samples) for x in by_token]
    columns += [np.bincount(sample[ranked], x, n_samples) for x in (rho[ranked], np.ones(ranked.sum()))]
    columns += [np.bincount(owner, x, n_samples) for x in ((gene_mean - target) ** 2, tie_var[cell])]
    return np.column_stack(columns)


def cell_correlations(predicted: np.ndarray, target: np.ndarray, cell: np.ndarray, n: int) -> np.ndarray:
    """Spearman's correlation within each cell, float64 (n,).

    NaN for cells with fewer than 3 masked positions or with equal bins alone; 0 where the predictions are all equal,
    as they order nothing.
    """
    return _correlations(predicted, target, cell, n, MIN_CELL)


def spearman_gene(predicted: np.ndarray, target: np.ndarray, gene: np.ndarray) -> tuple[float, int]:
    """Spearman's correlation within each gene over cells, mean over genes with at least 10 masked positions.

    Returns
    -------
    The mean (NaN without a gene), and the number of genes.
    """
    _, group = np.unique(gene, return_inverse=True)
    rho = _correlations(predicted, target, group, int(group.max(initial=-1)) + 1, MIN_GENE)
    rho = rho[~np.isnan(rho)]
    return (float(rho.mean()) if len(rho) else float("nan")), len(rho)


def _correlations(x: np.ndarray, y: np.ndarray, group: np.ndarray, n: int, least: int) -> np.ndarray:
    """Pearson's correlation of ranks within groups, float64 (n,); see `cell_correlations`."""
    count = np.bincount(group, minlength=n)
    a, b = (_centred(ranks_within(values, group), group, count) for values in (x, y))
    ab, aa, bb = (np.bincount(group, product, minlength=n) for product in (a * b, a * a, b * b))
    rho = np.divide(ab, np.sqrt(aa * bb), out=np.zeros(n), where=aa * bb > 0)
    return np.where((count >= least) & (bb > 0), rho, np.nan)


def _centred(ranks: np.ndarray, group: np.ndarray, count: np.ndarray) -> np.ndarray:
    return ranks - ((count + 1) / 2)[group]


def ranks_within(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Rank values within their group from 1, equal ones sharing the mean of their ranks, float64 (M,)."""
    order = np.lexsort((values, group))
    v, g = values[order], group[order]
    new_group = np.r_[True, g[1:] != g[:-1]] if len(g) else np.empty(0, bool)
    new_value = new_group | np.r_[True, v[1:] != v[:-1]] if len(g) else new_group
    start = np.flatnonzero(new_value)
    end = np.r_[start[1:], len(v)]
    run = np.cumsum(new_value) - 1
    first = np.flatnonzero(new_group)[np.cumsum(new_group) - 1]  # where each one's group begins
    ranks = np.empty(len(v))
    ranks[order] = ((start + end + 1) / 2)[run] - first
    return ranks


def resample(sums: np.ndarray) -> np.ndarray:
    """Draw whole samples with replacement (bootstrap, Efron 1979), by hash, and add each draw up.

    Parameters
    ----------
    sums
        float64 (n_samples, 9) of `sums_by_sample`.

    Returns
    -------
    float64 (1000, 9); (0, 9) with fewer than 5 samples, which are too few for an interval that means anything.
    """
    sums = sums[sums[:, _N] > 0]
    return times(len(sums)) @ sums if len(sums) >= MIN_SAMPLES else sums[:0]


@cache
def times(n: int) -> np.ndarray:
    """How often each draw takes each of n samples, float64 (1000, n)."""
    drawn = (draw(_BOOTSTRAP, np.arange(DRAWS)[:, None], np.arange(n)) % np.uint64(n)).astype(np.int64)
    flat = drawn + n * np.arange(DRAWS)[:, None]
    return np.bincount(flat.ravel(), minlength=DRAWS * n).reshape(DRAWS, n).astype(np.float64)


def interval(resampled: np.ndarray, metric: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
    """95 % percentile interval of a metric over what `resample` gives; NaN where it gives nothing."""
    return quantiles(metric(resampled))


def quantiles(values: np.ndarray) -> tuple[float, float]:
    """Return the 2.5 % and 97.5 % quantiles of what is not NaN; NaN where nothing is left."""
    values = values[~np.isnan(values)]
    low, high = np.percentile(values, [2.5, 97.5]).tolist() if len(values) else (float("nan"), float("nan"))
    return low, high
