"""Responses by command: real cells, a stimulation that was added to their counts and differs by state."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from own_cells import real_cells, vocabulary_for, write_model
from scipy import sparse

from censusformer.cli import main

REAL = real_cells(n=400)


def study(without=()):
    """Seven persons; in stimulated cells, genes of either state are raised. Persons `without` were not stimulated."""
    adata = REAL.copy()
    n = np.arange(400)
    ribosomal = np.asarray(adata.X[:, adata.var_names.str.startswith("RP")].sum(1) / adata.X.sum(1)).ravel()
    state = (ribosomal > np.median(ribosomal)).astype(int)
    person, stimulated = n % 7, (n // 7) % 2 == 1
    stimulated &= ~np.isin(person, without)
    counts, rng = adata.X.toarray(), np.random.default_rng(0)
    for s, genes in ((0, slice(0, 30)), (1, slice(20, 60))):
        rows = np.flatnonzero(stimulated & (state == s))
        counts[rows, genes] += rng.poisson(4, counts[rows, genes].shape)
    adata.X = sparse.csr_matrix(counts)
    adata.obs["cell_type"] = np.array(["low", "high"])[state]
    adata.obs["condition"] = np.where(stimulated, "stimulated", "control")
    adata.obs["person"] = [f"p{p}" for p in person]
    return adata


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "best_model.pt", vocabulary_for(REAL))


def respond(path, adata, folder, *options):
    adata.write_h5ad(folder / "mine.h5ad")
    options = [
        "--model",
        path,
        "--h5ad",
        folder / "mine.h5ad",
        "--out",
        folder / "out",
        "--response-genes",
        "200",
        *options,
    ]
    return main(["response", *map(str, options)])


@pytest.fixture(scope="module")
def out(path, tmp_path_factory):
    """Person p6 has no stimulated cell."""
    folder = tmp_path_factory.mktemp("response")
    assert respond(path, study(without=[6]), folder) == 0
    return folder / "out"


def test_it_beats_no_change_on_persons_never_seen_and_stands_beside_additive(out):
    scores = json.loads((out / "scores.json").read_text())
    assert scores["persons"] == 6
    assert scores["groups"] == 12
    assert scores["lead"]["no_change"]["low"] > 0
    assert set(scores["predictors"]) == {"no_change", "additive", "model"}
    assert scores["predictors"]["model"]["correlation"]["value"] > 0.5
    mse = {name: score["mse"]["value"] for name, score in scores["predictors"].items()}
    assert scores["lead"]["additive"]["value"] == pytest.approx(mse["additive"] - mse["model"])


def test_predictions_hold_what_scores_rest_on_and_persons_that_were_not_stimulated(out):
    frame = pq.read_table(out / "predictions.parquet").to_pandas()
    assert len(frame) == 14 * 200
    measured = frame[(frame["n_control"] >= 5) & (frame["n_stimulated"] >= 5)]
    errors = ((measured["model"] - measured["stimulated"]) ** 2).groupby([measured["person"], measured["state"]]).mean()
    value = json.loads((out / "scores.json").read_text())["predictors"]["model"]["mse"]["value"]
    assert errors.groupby("person").mean().mean() == pytest.approx(value, rel=1e-4)
    new = frame[frame["person"] == "p6"]
    assert new["stimulated"].isna().all()
    assert new["model"].notna().all()
    assert np.abs(new["model"] - new["control"]).mean() > 0.05


def test_the_same_options_give_the_same_bytes(path, out, tmp_path):
    respond(path, study(without=[6]), tmp_path)
    for name in ("scores.json", "predictions.parquet"):
        assert (tmp_path / "out" / name).read_bytes() == (out / name).read_bytes()


@pytest.mark.parametrize("case", ["condition", "control", "three", "persons", "state"])
def test_bad_input_is_one_line(path, tmp_path, case, capsys):
    adata, options = study(), []
    if case == "condition":
        options = ["--response-condition", "dose"]
    elif case == "control":
        options = ["--response-control", "ctrl"]
    elif case == "three":
        adata.obs.loc[adata.obs_names[:5], "condition"] = "other"
    elif case == "persons":
        adata = study(without=range(5))
    else:
        options = ["--response-state", "kind"]
    words = {
        "condition": "obs has no column 'dose' (response.condition)",
        "control": "obs.condition holds control, stimulated; the control cells' value (ctrl, response.control)",
        "three": "obs.condition holds control, other, stimulated",
        "persons": "fewer than three persons have 5 control and 5 stimulated cells",
        "state": "obs has no column 'kind' (response.state)",
    }[case]
    assert respond(path, adata, tmp_path, *options) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
