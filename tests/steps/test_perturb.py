"""In-silico perturbation of real cells by a model of random weights: what is said of it is what the model computes."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from own_cells import real_cells, vocabulary_for, write_model

import censusformer
from censusformer.cli import main
from censusformer.steps._counts import of_adata
from censusformer.steps._own import OwnCells
from censusformer.steps.perturb import predicted_changes
from censusformer.tokens.edit import shows, without
from censusformer.training import embed_cells

REAL = real_cells(n=200)
REAL.obs["cell_type"] = np.array(["low", "high"])[(np.asarray(REAL.X.sum(1)).ravel() > 2000).astype(int)]
REAL.obs["cell_type"] = REAL.obs["cell_type"].astype(object)
REAL.obs.loc[REAL.obs_names[:4], "cell_type"] = "few"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "best_model.pt", vocabulary_for(REAL))


@pytest.fixture(scope="module")
def model(path):
    return censusformer.load(path)


@pytest.fixture(scope="module")
def gene(model):
    """A gene that about half of the cells show: its row among the model's genes."""
    cells = OwnCells(of_adata(REAL), model.reading).read()
    n = np.bincount(cells.genes, minlength=model.module.config.n_genes)
    return int(model.reading.genes[np.argmin(np.abs(n[model.reading.genes] - 100))])


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "mine.h5ad"
    REAL.write_h5ad(file)
    return file


def perturb(path, file, name, out, *options):
    options = ["--model", path, "--h5ad", file, "--gene", name, "--out", out, "--perturb-draws", "19", *options]
    return main(["perturb", *map(str, options)])


def read(out):
    names = ("genes", "states")
    return SimpleNamespace(**{name: pq.read_table(out / f"{name}.parquet").to_pandas() for name in names})


def test_removing_a_gene_moves_what_the_model_says(path, model, gene, file, tmp_path):
    vocabulary = model.reading.vocabulary
    assert perturb(path, file, vocabulary.names[gene], tmp_path) == 0
    found, about = read(tmp_path), json.loads((tmp_path / "perturbation.json").read_text())
    cells = OwnCells(of_adata(REAL), model.reading).read()
    cells = cells.take(shows(cells, gene))
    move = embed_cells(model.module, without(cells, gene)) - embed_cells(model.module, cells)
    assert about["cells"] == len(cells)
    assert about["gene"] == vocabulary.genes[gene]
    changes = dict(zip(found.genes["feature_id"], found.genes["change"], strict=True))
    assert vocabulary.genes[gene] not in changes
    assert len(changes) == len(model.reading.genes) - 1
    wanted = dict(
        zip(model.reading.genes, predicted_changes(model.module, move.mean(0), model.reading.genes), strict=True)
    )
    for k in model.reading.genes[:50]:
        if k != gene:
            assert changes[vocabulary.genes[k]] == pytest.approx(wanted[k], abs=1e-4)
    states = found.states.set_index("state")
    assert states.loc["few", "n_cells"] <= 4
    assert np.isnan(states.loc["few", "move"])
    assert states["n_cells"].sum() == len(cells)
    total = (states["move"] * states["n_cells"]).drop("few").sum()
    few = REAL.obs["cell_type"].to_numpy(str)[shows(OwnCells(of_adata(REAL), model.reading).read(), gene)] == "few"
    assert total == pytest.approx(np.linalg.norm(move, axis=1)[~few].sum(), rel=1e-4)


def test_predicted_changes_are_those_of_the_gepc_head(model):
    rng = np.random.default_rng(0)
    genes = model.reading.genes[:20]
    start, move = rng.normal(size=16).astype(np.float32), rng.normal(size=16).astype(np.float32)
    with torch.inference_mode():
        vectors, ids = model.module.encoder(torch.from_numpy(genes)), torch.from_numpy(genes)
        one, two = (
            model.module.mvc_decoder(torch.from_numpy(x).expand(20, 16), vectors, ids) for x in (start, start + move)
        )
    np.testing.assert_allclose(predicted_changes(model.module, move, genes), (two - one).numpy(), rtol=1e-3, atol=1e-4)


def test_raising_a_gene_takes_the_cells_that_do_not_show_it(path, model, gene, file, tmp_path):
    gene_id = model.reading.vocabulary.genes[gene]
    assert perturb(path, file, gene_id, tmp_path, "--perturb-effect", "raise", "--perturb-cells", "30") == 0
    about = json.loads((tmp_path / "perturbation.json").read_text())
    assert (about["effect"], about["cells"], about["compared_with"]) == ("raise", 30, 19)
    found = read(tmp_path)
    assert found.genes["p"].between(1 / 20, 1).all()
    assert found.genes["p"].is_monotonic_increasing
    assert (found.genes["q"] >= found.genes["p"] - 1e-12).all()


def test_the_same_options_give_the_same_bytes(path, model, gene, file, tmp_path):
    name = model.reading.vocabulary.names[gene]
    for folder in ("one", "two"):
        assert perturb(path, file, name, tmp_path / folder, "--perturb-cells", "20") == 0
    for name in ("genes.parquet", "states.parquet", "perturbation.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("case", ["stranger", "unread", "column", "cells"])
def test_bad_input_is_one_line(path, model, gene, tmp_path, case, capsys):
    adata, options, name = REAL, [], model.reading.vocabulary.names[gene]
    if case == "stranger":
        name = "NOGENE"
    elif case == "unread":
        name = model.reading.vocabulary.names[np.setdiff1d(np.arange(800), model.reading.genes)[0]]
    elif case == "column":
        options = ["--perturb-state", "state"]
    else:
        adata = REAL[:8].copy()
    words = {
        "stranger": "--gene NOGENE: none of the model's 800 genes has this symbol or Ensembl id",
        "unread": "is none of the 300 genes that the model reads of a cell",
        "column": "obs has no column 'state' (perturb.state)",
        "cells": "fewer than 10 cells can have",
    }[case]
    adata.write_h5ad(tmp_path / "mine.h5ad")
    assert perturb(path, tmp_path / "mine.h5ad", name, tmp_path / "out", *options) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
