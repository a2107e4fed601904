"""Integration by command: two batches of the same real cells, one of them measured otherwise."""

import json

import anndata as ad
import numpy as np
import pytest
from own_cells import real_cells, vocabulary_for, write_model
from scipy import sparse

from censusformer.cli import main
from censusformer.steps.integrate import epochs_of

REAL = real_cells(n=300)
KEY = "X_integrated"


def two_studies():
    """Real cells in two batches; the second has lost two thirds of the counts of every third gene."""
    adata = REAL.copy()
    adata.obs["dataset_id"] = np.array(["a", "b"])[np.arange(300) % 2]
    adata.obs["cell_type"] = np.array(["low", "high"])[(np.asarray(adata.X.sum(1)).ravel() > 2000).astype(int)]
    counts = adata.X.toarray()
    counts[1::2, ::3] = np.floor(counts[1::2, ::3] / 3)
    adata.X = sparse.csr_matrix(counts)
    return adata


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "best_model.pt", vocabulary_for(REAL))


def integrate(path, file, *options):
    out = file.with_name("out.h5ad")
    options = ["--model", path, "--h5ad", file, "--out", out, "--integrate-epochs", "20", *options]
    return main(["integrate", *map(str, options)]), out


def between(vectors, batches):
    """Share of variance that lies between batches."""
    centred = vectors - vectors.mean(0)
    _, of = np.unique(batches, return_inverse=True)
    means = np.stack([centred[of == k].mean(0) for k in range(of.max() + 1)])[of]
    return (means**2).sum() / (centred**2).sum()


@pytest.fixture
def file(tmp_path):
    two_studies().write_h5ad(tmp_path / "mine.h5ad")
    return tmp_path / "mine.h5ad"


@pytest.mark.parametrize("options", [[], ["--integrate-normalise", "batch"]])
def test_the_batch_goes_and_cells_stay_what_they_were(path, file, options):
    import censusformer

    status, out = integrate(path, file, "--integrate-epochs", "120", *options)
    assert status == 0
    found = ad.read_h5ad(out)
    batches = found.obs["dataset_id"].to_numpy(str)
    before = censusformer.load(path).embed(two_studies())
    scaled = (before - before.mean(0)) / before.std(0)
    assert between(found.obsm[KEY], batches) < 0.5 * between(scaled, batches)
    similar = np.corrcoef(found.obsm[KEY].ravel(), scaled.ravel())[0, 1]
    assert similar > 0.8
    assert found.uns[KEY]["batch"] == "dataset_id"
    assert (found.X != ad.read_h5ad(file).X).nnz == 0


def test_without_the_adversary_embeddings_hardly_move(path, file):
    _, with_it = integrate(path, file, "--integrate-epochs", "120")
    strong = ad.read_h5ad(with_it)
    batches = strong.obs["dataset_id"].to_numpy(str)
    _, out = integrate(path, file, "--integrate-epochs", "120", "--integrate-strength", "0")
    assert between(ad.read_h5ad(out).obsm[KEY], batches) > between(strong.obsm[KEY], batches)


def test_the_same_options_give_the_same_bytes(path, file):
    _, out = integrate(path, file)
    first = out.read_bytes()
    integrate(path, file)
    assert out.read_bytes() == first


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of jax, numba and umap, on which the scores rest
def test_scores_stand_beside_usual_methods(path, file, tmp_path):
    status, _ = integrate(path, file, "--scores", tmp_path / "scores.json")
    assert status == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert list(scores) == ["pca", "pca_harmony", "model_cls", "integrated"]
    assert scores["integrated"]["ilisi"] > scores["model_cls"]["ilisi"]
    assert all({"nmi", "silhouette_label", "kbet"} <= score.keys() for score in scores.values())


@pytest.mark.parametrize("case", ["column", "one", "few", "missing", "strength", "label"])
def test_bad_input_is_one_line(path, tmp_path, case, capsys):
    adata, options = two_studies(), []
    if case == "column":
        options = ["--finetune-batch", "study"]
    elif case == "one":
        adata.obs["dataset_id"] = "a"
    elif case == "few":
        adata.obs["dataset_id"] = np.where(np.arange(300) < 9, "few", "a")
    elif case == "missing":
        adata.obs["dataset_id"] = np.where(np.arange(300) < 9, None, adata.obs["dataset_id"])
    elif case == "strength":
        options = ["--integrate-strength", "-1"]
    else:
        options = ["--finetune-label", "kind", "--scores", tmp_path / "scores.json"]
    words = {
        "column": "obs has no column 'study' (finetune.batch)",
        "one": "all cells are of the batch 'a': there is nothing to integrate",
        "few": "the batch 'few' has 9 cells: 10 at least are needed",
        "missing": "obs.dataset_id is empty for 9 cells",
        "strength": "integrate.strength -1.0: must be at least 0",
        "label": "obs has no column 'kind' (finetune.label)",
    }[case]
    adata.write_h5ad(tmp_path / "mine.h5ad")
    status, out = integrate(path, tmp_path / "mine.h5ad", *options)
    assert status == 2
    assert words in capsys.readouterr().err
    assert not out.exists()


def test_few_cells_are_passed_over_more_often():
    assert epochs_of(100) == 1000
    assert epochs_of(366) == 334  # three steps each
    assert epochs_of(2922) == 44
    assert epochs_of(100_000) == 40
