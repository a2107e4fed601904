"""What a model's embeddings are measured beside: principal components, Harmony, scVI, and genes without values."""

import importlib

import numpy as np
from scipy import sparse

from censusformer.errors import InputError

N_GENES, N_COMPONENTS = 2000, 50  # scanpy's defaults of highly variable genes and components
TARGET_SUM, CLIP = 1e4, 10.0
SEED = 0


def log_normalised(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Scale each cell to 10,000 counts and take log(1 + x), float32, as is usual before principal components."""
    total = np.asarray(counts.sum(1)).ravel()
    scale = np.divide(TARGET_SUM, total, out=np.zeros(len(total)), where=total > 0)
    values = np.log1p(counts.data * np.repeat(scale, np.diff(counts.indptr)))
    return sparse.csr_matrix((values.astype(np.float32), counts.indices, counts.indptr), counts.shape)


def variable_genes(n_samples: np.ndarray, values: sparse.csr_matrix) -> np.ndarray:
    """Choose the genes that most samples selected as highly variable, as scanpy does over batches.

    Parameters
    ----------
    n_samples
        int (genes,): how many samples selected each gene.
    values
        (cells, genes): genes selected equally often are ranked by their variance in these.

    Returns
    -------
    At most 2,000 genes in their order, int64; none that no sample selected.
    """
    mean = np.asarray(values.mean(0)).ravel()
    variance = np.asarray(values.multiply(values).mean(0)).ravel() - mean**2
    order = np.lexsort((np.arange(len(n_samples)), -variance, -n_samples))[:N_GENES]
    return np.sort(order[n_samples[order] > 0])


def principal_components(values: sparse.csr_matrix, fitted: np.ndarray) -> np.ndarray:
    """Principal components of scaled genes, fitted on some cells and applied to all.

    Parameters
    ----------
    values
        (n, genes): log-normalised counts of chosen genes.
    fitted
        bool (n,): the cells that scale and components come from.

    Returns
    -------
    float32 (n, at most 50).
    """
    from sklearn.decomposition import PCA

    x = values.toarray()
    mean, deviation = x[fitted].mean(0), x[fitted].std(0)
    x = np.minimum((x - mean) / np.where(deviation > 0, deviation, 1), CLIP)
    pca = PCA(_components(x[fitted]), svd_solver="randomized", random_state=SEED).fit(x[fitted])
    return pca.transform(x).astype(np.float32)


def gene_sets(offsets: np.ndarray, genes: np.ndarray, n_genes: int, fitted: np.ndarray) -> np.ndarray:
    """Principal components of which genes a cell shows as tokens, whatever their values; arguments as below."""
    from sklearn.decomposition import PCA

    shown = sparse.csr_matrix(
        (np.ones(len(genes), np.float32), genes.astype(np.int32), offsets), (len(fitted), n_genes)
    )
    used = np.flatnonzero(np.asarray(shown[fitted].sum(0)).ravel())
    part = shown[:, used]
    pca = PCA(_components(part[fitted]), svd_solver="arpack", random_state=SEED).fit(part[fitted])
    return pca.transform(part).astype(np.float32)


def _components(x: np.ndarray | sparse.csr_matrix) -> int:
    return max(1, min(N_COMPONENTS, min(x.shape) - 1))


def harmony(components: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """Components with batches aligned by Harmony (Korsunsky et al. 2019, Nature Methods 16:1289).

    Parameters
    ----------
    components
        float (n, d).
    batch
        int (n,), of at least two batches.

    Returns
    -------
    float32 (n, d). All cells enter, test cells too: Harmony cannot be applied to new ones.
    """
    import harmonypy
    import pandas as pd

    table = pd.DataFrame({"batch": batch.astype(str)})
    done = harmonypy.run_harmony(
        components.astype(np.float64), table, ["batch"], random_state=SEED, verbose=False, ncores=1
    )
    aligned = np.asarray(done.Z_corr, np.float32)
    return aligned if aligned.shape == components.shape else aligned.T


def scvi_latent(counts: sparse.csr_matrix, batch: np.ndarray) -> np.ndarray:
    """Latent space of scVI (Lopez et al. 2018, Nature Methods 15:1053) with its defaults; arguments as for Harmony.

    Raises
    ------
    InputError
        Where scvi-tools is not installed.
    """
    try:
        anndata, scvi = map(importlib.import_module, ("anndata", "scvi"))  # an extra: in no environment of a rule
    except ImportError as error:
        raise InputError(
            "embeddings.scvi is true, but scvi-tools is not installed: pip install 'censusformer[scvi]'"
        ) from error
    scvi.settings.seed = SEED
    data = anndata.AnnData(counts)
    data.obs["batch"] = batch.astype(str)
    scvi.model.SCVI.setup_anndata(data, batch_key="batch")
    model = scvi.model.SCVI(data)
    model.train(accelerator="auto", enable_progress_bar=False)
    return model.get_latent_representation().astype(np.float32)
