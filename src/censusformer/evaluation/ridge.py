"""Ridge regression of each masked gene on principal components of the cell's visible bins; needs scipy."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from censusformer.evaluation.masked import MaskedCells
from censusformer.hashing import draw, uniform, word

STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
_START = word("censusformer principal components")
_BLOCK_CELLS, _BLOCK_TOKENS = 2**14, 2**18


@dataclass(frozen=True)
class Components:
    """Principal components of visible bins.

    Parameters
    ----------
    mean
        float64 (n_genes,): the mean over cells, masked and absent genes counted as 0.
    axes
        float64 (n_genes, k): orthonormal.
    scale
        float64 (k,): the standard deviation of the training cells along each.
    """

    mean: np.ndarray
    axes: np.ndarray
    scale: np.ndarray

    def scores(self, x: sp.csr_matrix) -> np.ndarray:
        """Place cells, float64 (n, k), in standard deviations."""
        return (x @ self.axes - self.mean @ self.axes) / self.scale


@dataclass(frozen=True)
class Ridge:
    """One regression a gene, of what is left of its bin after the gene's mean.

    Parameters
    ----------
    gene_mean
        float64 (n_genes,).
    components
        What it regresses on.
    coefficients
        float64 (n_genes, k+1), the intercept last; 0 for a gene that was never masked.
    strength
        The penalty on squared coefficients, the intercept's too: in cells, as components have variance 1.
    """

    gene_mean: np.ndarray
    components: Components
    coefficients: np.ndarray
    strength: float

    def predict(self, cells: MaskedCells) -> np.ndarray:
        """Predict masked positions, float64 (M,)."""
        features = _features(self.components, cells)
        return self.gene_mean[cells.target_gene] + _products(features, self.coefficients, cells)


def visible_matrix(cells: MaskedCells, n_genes: int) -> sp.csr_matrix:
    """Gather visible bins, float64 (n, n_genes); masked and absent genes are 0."""
    visible = ~cells.mask
    count = np.bincount(cells.cell[visible], minlength=len(cells))
    indptr = np.concatenate([[0], np.cumsum(count)])
    content = cells.values[visible].astype(np.float64), cells.genes[visible].astype(np.int32), indptr
    return sp.csr_matrix(content, shape=(len(cells), n_genes))


def fit_components(x: sp.csr_matrix, k: int, *, oversample: int = 10, iterations: int = 4) -> Components:
    """Find the first k principal components by randomised subspace iteration (Halko, Martinsson and Tropp 2011).

    The matrix stays sparse: its mean is subtracted inside each product. The start is drawn by hash.
    """
    n, n_genes = x.shape
    mean = np.asarray(x.mean(axis=0)).ravel()
    k = min(k, n, n_genes)
    width = min(k + oversample, n, n_genes)
    start = uniform(draw(_START, np.arange(n_genes * width, dtype=np.uint64))).reshape(n_genes, width) - 0.5
    axes = np.linalg.qr(start)[0]
    for _ in range(iterations):
        cells = np.linalg.qr(x @ axes - mean @ axes)[0]
        axes = np.linalg.qr(x.T @ cells - np.outer(mean, cells.sum(axis=0)))[0]
    projected = x @ axes - mean @ axes
    _, size, rotation = np.linalg.svd(projected, full_matrices=False)
    scale = size[:k] / np.sqrt(n)
    return Components(mean, axes @ rotation[:k].T, np.where(scale > 1e-9 * max(size[0], 1), scale, np.inf))


def fit_ridge(cells: MaskedCells, gene_mean: np.ndarray, held_out: np.ndarray, k: int) -> Ridge:
    """Fit a regression a gene on the training cells where it is masked.

    Parameters
    ----------
    cells
        Training cells.
    gene_mean
        float64 (n_genes,): what is subtracted from bins, so that a gene with few cells falls back on its mean.
    held_out
        bool (n,): the training cells that choose the strength; the regressions are then fitted again on all. Without
        any the highest strength is taken.
    k
        The number of principal components.
    """
    components = fit_components(visible_matrix(cells, len(gene_mean)), k)
    features = _features(components, cells)
    residual = cells.target - gene_mean[cells.target_gene]
    held = held_out[cells.target_cell]
    parts = [_normal_equations(features, residual, cells, part, len(gene_mean)) for part in (~held, held)]
    strength = _choose(parts[0], features, residual, cells, held) if held.any() else STRENGTHS[-1]
    gram, moment = (one + other for one, other in zip(*parts, strict=True))
    return Ridge(gene_mean, components, solve(gram, moment, strength), strength)


def solve(gram: np.ndarray, moment: np.ndarray, strength: float) -> np.ndarray:
    """Solve (gram + strength·I) b = moment for each gene, float64 (n_genes, k+1).

    Parameters
    ----------
    gram
        float64 (n_genes, (k+1)(k+2)/2): upper triangles, row after row.
    moment
        float64 (n_genes, k+1).
    strength
        The penalty.
    """
    width = moment.shape[1]
    coefficients = np.zeros_like(moment)
    seen = np.flatnonzero(moment.any(axis=1))
    i, j = np.triu_indices(width)
    square = np.empty((len(seen), width, width))
    square[:, i, j] = square[:, j, i] = gram[seen]
    square[:, range(width), range(width)] += strength
    coefficients[seen] = np.linalg.solve(square, moment[seen, :, None])[:, :, 0]
    return coefficients


def _choose(
    equations: tuple[np.ndarray, np.ndarray],
    features: np.ndarray,
    residual: np.ndarray,
    cells: MaskedCells,
    held: np.ndarray,
) -> float:
    """Take the strength with the lowest squared error on masked positions of held-out training cells."""
    errors = []
    for strength in STRENGTHS:
        found = _products(features, solve(*equations, strength), cells, held)
        errors.append(np.square(found - residual[held]).mean())
    return STRENGTHS[int(np.argmin(errors))]


def _features(components: Components, cells: MaskedCells) -> np.ndarray:
    """Principal components and a 1, float64 (n, k+1)."""
    scores = components.scores(visible_matrix(cells, len(components.mean)))
    return np.column_stack([scores, np.ones(len(cells))])


def _normal_equations(
    features: np.ndarray, residual: np.ndarray, cells: MaskedCells, part: np.ndarray, n_genes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sum features' products over the masked positions of each gene, cells in blocks.

    A (genes x cells) matrix of ones times the cells' products is the sum by gene without a loop.
    """
    i, j = np.triu_indices(features.shape[1])
    gram, moment = np.zeros((n_genes, len(i))), np.zeros((n_genes, features.shape[1]))
    genes, owner, residual = cells.target_gene[part], cells.target_cell[part], residual[part]
    for first in range(0, len(cells), _BLOCK_CELLS):
        block = features[first : first + _BLOCK_CELLS]
        tokens = slice(*np.searchsorted(owner, [first, first + len(block)]))
        place, shape = (genes[tokens], owner[tokens] - first), (n_genes, len(block))
        gram += sp.csr_matrix((np.ones(len(place[0])), place), shape) @ (block[:, i] * block[:, j])
        moment += sp.csr_matrix((residual[tokens], place), shape) @ block
    return gram, moment


def _products(
    features: np.ndarray, coefficients: np.ndarray, cells: MaskedCells, part: np.ndarray | None = None
) -> np.ndarray:
    """Multiply each masked position's features with its gene's coefficients, float64; positions in blocks."""
    genes, owner = cells.target_gene, cells.target_cell
    if part is not None:
        genes, owner = genes[part], owner[part]
    found = np.empty(len(genes))
    for first in range(0, len(genes), _BLOCK_TOKENS):
        block = slice(first, first + _BLOCK_TOKENS)
        found[block] = np.einsum("tk,tk->t", features[owner[block]], coefficients[genes[block]])
    return found
