"""Highly variable genes of one sample, as scanpy's `pp.highly_variable_genes` finds them.

Functions take the moments of the genes that the sample expresses, in the order of their ids, so that equal scores
keep that order. Sources: Stuart et al. 2019 (Seurat v3), Satija et al. 2015 (Seurat), Zheng et al. 2017 (Cell Ranger).
"""

from dataclasses import dataclass

import numpy as np

COUNT_FLAVORS = ("seurat_v3", "seurat_v3_paper")  # one formula; samples are combined differently (`shared_ranks`)
DISPERSION_FLAVORS = ("seurat", "cell_ranger")
FLAVORS = COUNT_FLAVORS + DISPERSION_FLAVORS
MAD_OF_NORMAL = 0.6744897501960817  # the normal distribution's upper quartile, by which a MAD is scaled
SEURAT_BINS = 20


def mean_variance(n: int, sums: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased variance of each gene over n cells, from sums of values and of squares, float64 (g,)."""
    mean = sums / n
    variance = squares / n - mean**2
    return mean, variance * (n / (n - 1)) if n > 1 else variance


@dataclass(frozen=True)
class Trend:
    """The variance that genes of a given mean have, as fitted to a sample.

    Parameters
    ----------
    std
        float64 (g,): the expected standard deviation.
    span
        The span that loess fitted with; None where no span did and a parabola stands in for it.
    """

    std: np.ndarray
    span: float | None


def variance_trend(mean: np.ndarray, variance: np.ndarray, span: float) -> Trend:
    """Fit log10 variance on log10 mean with loess of degree 2, as Seurat v3 and scanpy do.

    Loess needs enough distinct means in each neighbourhood, and small samples have few. Where it fails the span is
    doubled up to the whole sample; where that fails too, one parabola is fitted by least squares, which is what loess
    tends to as its span grows. Genes without variance are expected to have a log10 variance of 0, as in scanpy.
    """
    log_variance = np.zeros(len(mean))
    varies = variance > 0
    x, y = np.log10(mean[varies]), np.log10(variance[varies])
    log_variance[varies], used = _smooth(x, y, span)
    return Trend(np.sqrt(10**log_variance), used)


def _smooth(x: np.ndarray, y: np.ndarray, span: float) -> tuple[np.ndarray, float | None]:
    while len(x):
        fitted = _loess(x, y, span)
        if fitted is not None:
            return fitted, span
        if span >= 1:
            break
        span = min(2 * span, 1.0)
    powers = np.vander(x, 3)
    return powers @ np.linalg.lstsq(powers, y, rcond=None)[0], None


def _loess(x: np.ndarray, y: np.ndarray, span: float) -> np.ndarray | None:
    from skmisc.loess import loess

    if len(x) * span < 2:  # it would end the process
        return None
    model = loess(x, y, span=span, degree=2)
    try:
        model.fit()
    except ValueError:  # how it reports singular neighbourhoods
        return None
    fitted = model.outputs.fitted_values
    return fitted if np.isfinite(fitted).all() else None


def clip_values(n: int, mean: np.ndarray, trend: Trend) -> np.ndarray:
    """Counts above the mean by more than sqrt(n) expected standard deviations are clipped to this, float64 (g,)."""
    return trend.std * np.sqrt(n) + mean


def seurat_v3_scores(n: int, moments: np.ndarray, trend: Trend, clipped: np.ndarray) -> np.ndarray:
    """Compute the variance of each gene's clipped, standardised counts: scanpy's `variances_norm`.

    Parameters
    ----------
    n
        Number of cells.
    moments
        float64 (g, 2): sums of counts and of their squares.
    trend
        Of `variance_trend`.
    clipped
        float64 (g, 3): of the counts over `clip_values`, their number, sum and sum of squares.

    Returns
    -------
    float64 (g,). All 0 in a sample of one cell.
    """
    if n < 2:
        return np.zeros(len(moments))
    mean = moments[:, 0] / n
    limit = clip_values(n, mean, trend)
    sums = moments[:, 0] - clipped[:, 1] + clipped[:, 0] * limit
    squares = moments[:, 1] - clipped[:, 2] + clipped[:, 0] * limit**2
    return (1 / ((n - 1) * np.square(trend.std))) * (n * np.square(mean) + squares - 2 * sums * mean)


def dispersion_scores(mean: np.ndarray, variance: np.ndarray, flavor: str) -> np.ndarray:
    """Compute each gene's dispersion, normalised by those of genes with a similar mean: scanpy's `dispersions_norm`.

    `seurat` takes moments of normalised values (and logarithms after that), `cell_ranger` those of log1p values.

    Returns
    -------
    float64 (g,), NaN where the flavor gives none (no variance, or bins without spread); +-inf can occur.
    """
    dispersion = variance / mean
    if flavor == "seurat":
        dispersion = np.log(np.where(dispersion > 0, dispersion, np.nan))
        mean = np.log1p(mean)
        bins, center_spread = _equal_widths(mean), _mean_std
    else:
        edges = np.percentile(mean, np.arange(10, 105, 5))
        bins, center_spread = np.searchsorted(np.unique(edges), mean), _median_mad
    scores = np.full(len(mean), np.nan)
    for one in np.unique(bins):
        of_bin = bins == one
        center, spread = center_spread(dispersion[of_bin & ~np.isnan(dispersion)])
        with np.errstate(divide="ignore", invalid="ignore"):
            scores[of_bin] = (dispersion[of_bin] - center) / spread
    return scores


def _equal_widths(values: np.ndarray) -> np.ndarray:
    """Which of 20 intervals of equal width, closed on the right, holds each value (`pandas.cut`)."""
    edges = np.linspace(values.min(), values.max(), SEURAT_BINS + 1)
    return np.searchsorted(edges[1:-1], values)


def _mean_std(values: np.ndarray) -> tuple[float, float]:
    if len(values) < 2:  # a gene alone in its bin gets a normalised dispersion of 1
        return 0.0, values[0] if len(values) else np.nan
    shifted = values - values[0]  # equal values then have a spread of exactly 0
    return values[0] + shifted.mean(), shifted.std(ddof=1)


def _median_mad(values: np.ndarray) -> tuple[float, float]:
    center = np.median(values)
    return center, np.median(np.abs(values - center)) / MAD_OF_NORMAL


def top_genes(scores: np.ndarray, n_top: int) -> np.ndarray:
    """Positions of the n_top highest scores, highest first, equal ones in order; fewer where there are fewer.

    With genes in the order of their ids this is np.lexsort((feature_id, -scores)); genes without a score are left out.
    """
    places = np.flatnonzero(~np.isnan(scores))
    if len(places) > n_top:  # sorting what stands above the cut, and all that ties there, is enough
        cut = np.partition(scores[places], len(places) - n_top)[len(places) - n_top]
        places = places[scores[places] >= cut]
    return places[np.argsort(-scores[places], kind="stable")][:n_top]


def shared_ranks(
    gene: np.ndarray, rank: np.ndarray, n_genes: int, *, by_samples: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Combine the lists of several samples into one: by median rank, then number of samples, then gene.

    Parameters
    ----------
    gene, rank
        int (k,): one entry for each time that a sample selected a gene, with its rank there.
    n_genes
        Genes are 0..n_genes-1, in the order of their ids.
    by_samples
        Number of samples first, then median rank: what `seurat_v3_paper` means in scanpy.

    Returns
    -------
    The selected genes in their new order, their median ranks (float64) and numbers of samples (int64).
    """
    order = np.lexsort((rank, gene))
    n_samples = np.bincount(gene, minlength=n_genes)
    first = np.cumsum(n_samples) - n_samples
    genes = np.flatnonzero(n_samples)
    n, ranks = n_samples[genes], rank[order]
    median = (ranks[first[genes] + (n - 1) // 2] + ranks[first[genes] + n // 2]) / 2
    best = np.lexsort((genes, median, -n) if by_samples else (genes, -n, median))
    return genes[best], median[best], n[best]
