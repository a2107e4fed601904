"""Embeddings of one's own cells, by command and in Python."""

import logging

import anndata as ad
import numpy as np
import pytest
import torch
from own_cells import real_cells, vocabulary_for, write_model
from scipy import sparse

import censusformer
from censusformer.cli import main
from censusformer.errors import InputError
from censusformer.training import embed_cells

REAL = real_cells()
VOCABULARY = vocabulary_for(REAL)
EXACT = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A model's file, without its vocabulary beside it."""
    return write_model(tmp_path_factory.mktemp("model") / "best_model.pt", VOCABULARY)


@pytest.fixture(scope="module")
def model(path):
    return censusformer.load(path)


@pytest.fixture
def file(tmp_path):
    REAL.write_h5ad(tmp_path / "mine.h5ad")
    return tmp_path / "mine.h5ad"


def embed(path, file, *options, out=None):
    out = out or file.with_name("out.h5ad")
    status = main(["embed", "--model", str(path), "--h5ad", str(file), "--out", str(out), *map(str, options)])
    return status, out


def test_two_lines_of_python(model):
    adata = REAL.copy()
    vectors = model.embed(adata)
    assert vectors.dtype == np.float32
    assert vectors.shape == (60, 16)
    np.testing.assert_array_equal(adata.obsm["X_censusformer"], vectors)
    about = adata.uns["X_censusformer"]
    assert (about["genes_found"], about["genes_read"], about["pooling"]) == (300, 300, "cls")
    assert about["share_of_counts_in_vocabulary"] == 1
    assert len(np.unique(vectors.round(4), axis=0)) == 60


def test_is_what_the_encoder_makes_of_the_cells_tokens(model):
    from censusformer.steps._counts import of_adata
    from censusformer.steps._own import OwnCells

    cells = OwnCells(of_adata(REAL), model.reading).read()
    for pooling in ("cls", "mean"):
        wanted = embed_cells(model.module, cells, pooling)
        np.testing.assert_allclose(model.embed(REAL.copy(), pooling=pooling), wanted, **EXACT)


def test_a_cell_hangs_on_itself_alone(model):
    whole = model.embed(REAL.copy())
    rng = np.random.default_rng(0)
    rows, genes = rng.permutation(60)[:25], rng.permutation(REAL.n_vars)
    np.testing.assert_allclose(model.embed(REAL[rows][:, genes].copy()), whole[rows], **EXACT)
    with_strangers = ad.concat([REAL[rows], REAL[rows[:5]]], index_unique="-")
    with_strangers.obs_names = [*REAL.obs_names[rows], *"abcde"]
    np.testing.assert_allclose(model.embed(with_strangers)[:25], whole[rows], **EXACT)


def test_the_same_file_with_the_embeddings(path, model, file, caplog):
    adata = REAL.copy()
    adata.obsm["X_pca"], adata.uns["x"] = np.ones((60, 2)), {"a": 1}
    adata.layers["raw_counts"] = sparse.csr_matrix(adata.X)
    adata.write_h5ad(file)
    before = file.read_bytes()
    logging.getLogger("censusformer").propagate = True
    status, out = embed(path, file)
    assert status == 0
    assert file.read_bytes() == before
    found = ad.read_h5ad(out)
    np.testing.assert_allclose(found.obsm["X_censusformer"], model.embed(REAL.copy()), **EXACT)
    assert found.uns["X_censusformer"]["model"] == "best_model.pt"
    assert found.obs.equals(ad.read_h5ad(file).obs)
    assert (found.X != adata.X).nnz == 0
    assert (found.layers["raw_counts"] != adata.X).nnz == 0
    np.testing.assert_array_equal(found.obsm["X_pca"], adata.obsm["X_pca"])
    assert found.uns["x"] == {"a": 1}


def test_says_what_it_covers_and_how_fast(path, file, tmp_path):
    embed(path, file, "--log", tmp_path / "log.txt")
    text = (tmp_path / "log.txt").read_text()
    assert "300 of the 300 genes that the model reads are there (100.0 %); 100.0 % of the counts" in text
    assert "60 cells by 16" in text
    assert "cells/s" in text


def test_the_same_bytes_each_time_and_again_over_itself(path, file):
    _, out = embed(path, file)
    first = out.read_bytes()
    embed(path, file)
    assert out.read_bytes() == first
    status, _ = embed(path, out, "--pooling", "mean", out=out)  # in place, a key that is there
    assert status == 0
    found = ad.read_h5ad(out)
    assert found.uns["X_censusformer"]["pooling"] == "mean"
    assert not np.allclose(found.obsm["X_censusformer"], ad.read_h5ad(embed(path, file)[1]).obsm["X_censusformer"])


def test_options(path, model, file):
    adata = REAL.copy()
    adata.layers["mine"] = adata.X.copy()
    adata.X = adata.X.log1p()
    adata[:, :200].write_h5ad(file)
    status, out = embed(path, file, "--layer", "mine", "--key", "X_other", "--min-coverage", "0.1")
    assert status == 0
    wanted = model.embed(adata[:, :200].copy(), layer="mine", min_coverage=0.1)
    np.testing.assert_allclose(ad.read_h5ad(out).obsm["X_other"], wanted, **EXACT)


def test_a_cell_without_any_of_the_genes_is_cls_alone(model):
    adata = REAL[:2].copy()
    adata.X = sparse.csr_matrix(adata.shape, dtype=np.float32)
    one, two = model.embed(adata)
    assert np.isfinite(one).all()
    np.testing.assert_allclose(one, two, **EXACT)


@pytest.mark.parametrize("case", ["genes", "coverage", "normalised", "layer", "missing", "model", "key", "vocabulary"])
def test_bad_input_is_one_line(path, file, tmp_path, case, capsys):
    adata, options, model_path = REAL.copy(), [], path
    if case == "genes":
        adata.var_names = [f"g{i}" for i in range(adata.n_vars)]
        del adata.var["feature_id"]
    elif case == "coverage":
        adata = adata[:, :200].copy()
    elif case == "normalised":
        adata.X = adata.X.log1p()
    elif case == "layer":
        options = ["--layer", "mine"]
    elif case == "key":
        options = ["--key", "a/b"]
    elif case == "model":
        model_path = tmp_path / "no_model.pt"
        torch.save({"a": 1}, model_path)
    elif case == "vocabulary":
        model_path = write_model(tmp_path / "best_model.pt", VOCABULARY, about={"vocabulary": None})
        vocabulary_for(REAL[:, :500]).write(tmp_path / "vocab.json")
    adata.write_h5ad(file)
    words = {
        "genes": "mine.h5ad has no gene in common with the model",
        "coverage": "of the 300 genes that the model reads, under 50 %",
        "normalised": "mine.h5ad: X holds normalised values, not whole numbers",
        "layer": "no layers/mine, where raw counts are needed; name their place with --layer",
        "missing": "absent.h5ad: no such file",
        "model": "no_model.pt is no model that censusformer wrote",
        "key": "--key 'a/b': a name without '/'",
        "vocabulary": "vocab.json is the vocabulary of another model than",
    }[case]
    status, out = embed(model_path, file if case != "missing" else tmp_path / "absent.h5ad", *options)
    assert status == 2
    assert not out.exists()
    text = capsys.readouterr().err
    assert words in text
    assert "Traceback" not in text
    assert text.splitlines()[-1].count("embed: ") == 1


def test_the_package_has_load_and_nothing_else():
    assert censusformer.load is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        censusformer.nonsense  # noqa: B018
    with pytest.raises(InputError, match="missing"):
        censusformer.load("nowhere.pt")


def test_no_step_depends_on_what_the_package_offers():
    from censusformer.digest import closure

    assert "censusformer.steps._model" not in closure("censusformer.steps.pretrain")
