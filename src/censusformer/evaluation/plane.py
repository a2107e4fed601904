"""Cells in the plane, for pictures."""

import warnings

import numpy as np

from censusformer.evaluation.integration import import_scib, nearest_cells

NEIGHBOURS, SEED = 15, 0


def umap(x: np.ndarray) -> np.ndarray:
    """Place cells in the plane by UMAP (McInnes, Healy and Melville 2018) on their 15 nearest, seed fixed.

    Parameters
    ----------
    x
        float32 (n, d), n > 15.

    Returns
    -------
    float32 (n, 2).
    """
    import_scib()  # imports umap, silently
    from umap import UMAP

    distances, indices = nearest_cells(x, NEIGHBOURS)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "precomputed_knn.* is not an NNDescent object", UserWarning)
        model = UMAP(NEIGHBOURS, random_state=SEED, n_jobs=1, precomputed_knn=(indices, distances))
        return model.fit_transform(x).astype(np.float32)
