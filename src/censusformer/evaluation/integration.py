"""Scores of scib-metrics: how well an embedding keeps labels together and batches mixed.

Luecken et al. 2022 (Nature Methods 19:41) define them; scib-metrics computes them (`0.5`). All lie between 0 and 1,
or near it, and more is better, for `*_batch`, `ilisi` and `kbet` in the sense that batches mix.
"""

import warnings
from collections.abc import Callable

import numpy as np

NEIGHBOURS, CONNECTED, KBET = 90, 15, 50  # of LISI, of graph connectivity and Leiden's graph, of kBET
LABEL_SCORES = ("nmi", "ari", "silhouette_label", "graph_connectivity", "clisi")
BATCH_SCORES = ("silhouette_batch", "ilisi", "kbet")


def integration_scores(x: np.ndarray, label: np.ndarray, batch: np.ndarray) -> dict[str, float]:
    """Score one embedding.

    Parameters
    ----------
    x
        float (n, d), n > 2.
    label, batch
        int (n,). With one label alone the scores of labels are left out, with one batch those of batches.

    Returns
    -------
    Scores by name: NMI and ARI of the Leiden clusters that fit best of ten resolutions, silhouette of labels and,
    within labels, of batches, graph connectivity, cLISI, iLISI and kBET (the share of cells whose neighbourhood has all
    batches in their shares).
    """
    scib = import_scib()
    x = np.ascontiguousarray(x, np.float32)
    distances, indices = nearest_cells(x, NEIGHBOURS)

    def near(k: int):
        from scib_metrics.nearest_neighbors import NeighborsResults

        return NeighborsResults(indices[:, :k], distances[:, :k])

    several = len(np.unique(label)) > 1, len(np.unique(batch)) > 1
    found = _of_labels(scib, x, near, label) if several[0] else {}
    if several[1]:
        found |= _of_batches(scib, x, near, label, batch)
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}


def import_scib():
    """Import scib-metrics, and let umap be silent about TensorFlow, which it does not need."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
        import scib_metrics
    return scib_metrics


def nearest_cells(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact Euclidean neighbours, the cell itself among them: distances, float32, and indices, int32, (n, k) each."""
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=min(k, len(x)), algorithm="brute").fit(x).kneighbors(x)
    return near[0].astype(np.float32), near[1].astype(np.int32)


def _of_labels(scib, x: np.ndarray, near: Callable, label: np.ndarray) -> dict[str, float]:
    clusters = scib.nmi_ari_cluster_labels_leiden(near(CONNECTED), label, optimize_resolution=True, n_jobs=1)
    return {
        "nmi": clusters["nmi"],
        "ari": clusters["ari"],
        "silhouette_label": scib.silhouette_label(x, label),
        "graph_connectivity": scib.graph_connectivity(near(CONNECTED), label),
        "clisi": scib.clisi_knn(near(NEIGHBOURS), label),
    }


def silhouette_batch(x: np.ndarray, label: np.ndarray, batch: np.ndarray) -> float:
    """1 - |silhouette of batches| within each label, mean over cells, then over labels.

    The number that scib-metrics gives, without JAX's compilation for each label's number of cells: 20 labels took 10 s.
    NaN where no label has several batches.
    """
    from sklearn.metrics import silhouette_samples

    groups = (label == one for one in np.unique(label))
    groups = [here for here in groups if 1 < len(np.unique(batch[here])) < here.sum()]
    means = [(1 - np.abs(silhouette_samples(x[here], batch[here]))).mean() for here in groups]
    return float(np.mean(means)) if means else float("nan")


def _of_batches(scib, x: np.ndarray, near: Callable, label: np.ndarray, batch: np.ndarray) -> dict[str, float]:
    return {
        "silhouette_batch": silhouette_batch(x, label, batch),
        "ilisi": scib.ilisi_knn(near(NEIGHBOURS), batch),
        "kbet": scib.kbet(near(KBET), batch)[0],
    }
