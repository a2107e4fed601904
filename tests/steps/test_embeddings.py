"""Embeddings beside baselines: the order of models, what cannot be measured, same bytes, refusals."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from planted import N_GENES, TYPES, write_planted

from censusformer.cli import main
from censusformer.tokens.shards import read_split

TABLES = ("embeddings", "umap", "genes", "markers", "frequency")
MODEL = {"n_layers": 1, "d_model": 32, "n_heads": 4, "d_ff": 64, "dropout": 0.0}


def pretrain(folder, epochs):
    options = [word for key, value in MODEL.items() for word in (f"--model-{key.replace('_', '-')}", str(value))]
    options += [
        "--train-epochs",
        str(epochs),
        "--train-lr",
        "3e-3",
        "--train-batch-size",
        "4",
        "--mask-ratios",
        "0.25",
        "--execution-num-workers",
        "0",
    ]
    files = ["--shards", str(folder / "shards.json"), "--vocab", str(folder / "vocab.json")]
    assert main(["pretrain", *files, "--out", str(folder / "run"), *options]) == 0


def embeddings(folder, out, *options, model=None, code=0):
    files = {"model": model or folder / "run/best_model.pt", "shards": folder / "shards.json", "out": out}
    files |= {"vocab": folder / "vocab.json", "samples": folder / "samples.parquet", "chunk": folder / "raw.h5ad"}
    words = [word for name, file in files.items() for word in (f"--{name}", str(file))]
    assert main(["embeddings", *words, "--embeddings-umap-cells", "0", *map(str, options)]) == code


def read(out):
    return {name: pd.read_parquet(out / f"{name}.parquet") for name in TABLES}, json.loads(
        (out / "embeddings.json").read_text()
    )


def value(frame, representation, task, metric):
    rows = frame.query("representation == @representation and task == @task and metric == @metric")
    assert len(rows) == 1
    return rows.iloc[0]["value"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model trained on planted types, measured."""
    folder = write_planted(tmp_path_factory.mktemp("planted"), unlabelled=4)
    pretrain(folder, 20)
    embeddings(folder, folder / "out")
    return folder


def test_trained_stands_above_untrained_and_above_trained_on_shuffled_genes(trained, tmp_path):
    """The order that the page must show, on persons never seen, for types and for markers."""
    folder = write_planted(tmp_path / "shuffled", shuffled=True, unlabelled=4)
    pretrain(folder, 3)
    embeddings(trained, tmp_path / "out", model=folder / "run/best_model.pt")
    (good, _), (shuffled, _) = read(trained / "out"), read(tmp_path / "out")
    for metric in ("knn_macro_f1", "logistic_macro_f1"):
        model, untrained = (
            value(good["embeddings"], f"{name}_cls", "held_out", metric) for name in ("model", "untrained")
        )
        on_noise = value(shuffled["embeddings"], "model_cls", "held_out", metric)
        assert model > untrained + 0.2 and model > on_noise + 0.2, (metric, model, untrained, on_noise)
    model, untrained, on_noise = (
        frame["markers"].query("representation == @name and metric == 'nearest_marker'").iloc[0]
        for frame, name in ((good, "model"), (good, "untrained"), (shuffled, "model"))
    )
    assert model["p"] < 0.01 < min(untrained["p"], on_noise["p"])
    assert model["value"] > max(untrained["value"], on_noise["value"])
    assert model["value"] > model["high"]


def test_every_cell_of_the_table_is_filled(trained):
    frame = read(trained / "out")[0]["embeddings"]
    representations = {"model_cls", "model_mean", "untrained_cls", "untrained_mean", "pca", "harmony", "gene_set"}
    assert set(frame["representation"]) == {*representations, "majority"}
    assert set(frame["task"]) == {"held_out", "in_turn", "clusters", "mixing", "tells_sample", "tells_dataset"}
    leads = frame["metric"].str.endswith("_lead")
    assert set(frame["representation"][leads]) == representations - {"model_cls"}
    counts = frame[(frame["representation"] != "majority") & ~leads].groupby("representation").size()
    assert counts.min() == counts.max()
    assert frame["value"][~leads].between(-0.01, 1).all()
    rows = frame[frame["task"].isin(("held_out", "in_turn"))]
    assert (rows["low"] <= rows["value"]).all() and (rows["value"] <= rows["high"]).all()
    for task in ("held_out", "in_turn"):
        assert (
            value(frame, "pca", task, "logistic_accuracy") > 0.8 > value(frame, "majority", task, "majority_accuracy")
        )


def test_cells_without_a_type_are_counted_and_left_out(trained):
    told = read(trained / "out")[1]
    test = read_split(trained / "shards.json", "test")
    known = (test.cell_type.labels() != "unknown").sum()
    assert told["cells"]["test"] == len(test)
    assert told["cells"]["test_labelled"] == told["tasks"]["held_out"]["n"] == known < len(test)
    assert told["tasks"]["held_out"]["n_classes"] == len(TYPES)
    assert told["tasks"]["held_out"]["n_persons"] == 5


def test_genes_and_their_errors(trained):
    tables = read(trained / "out")[0]
    genes, train = tables["genes"], read_split(trained / "shards.json", "train")
    assert genes["n_cells"].tolist() == np.bincount(train.genes, minlength=N_GENES).tolist()
    common = genes["n_cells"] >= 20
    assert (genes["neighbours"].map(len)[common] == 10).all()
    assert not genes["neighbours"].map(len)[~common].any()
    masked = genes["n_masked"].sum()
    by_class = tables["frequency"].set_index("predictor")
    for name in ("gep", "gepc", "gene_mean"):
        pooled = np.nansum(genes[f"mse_{name}"] * genes["n_masked"]) / masked
        assert by_class.loc[[name], "n"].sum() == masked
        assert np.average(by_class.loc[[name], "mse"], weights=by_class.loc[[name], "n"]) == pytest.approx(pooled)


def test_same_bytes_twice_and_pictures(trained, tmp_path):
    for out in (tmp_path / "one", tmp_path / "two"):
        embeddings(trained, out, "--embeddings-umap-cells", 120, "--embeddings-cells", 150)
    for name in (*(f"{name}.parquet" for name in TABLES), "embeddings.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    tables, told = read(tmp_path / "one")
    assert told["cells"]["train"] == told["cells"]["test"] == 150
    umap = tables["umap"]
    assert umap.groupby("representation").size().to_dict() == {"model_cls": 120, "pca": 120}
    assert set(umap["cell_type"]) == {*TYPES, ""}
    assert np.isfinite(umap[["x", "y"]]).all(axis=None)


@pytest.mark.parametrize(
    ("data", "tasks"),
    [
        ({"n_test": 0}, {"held_out": "no held-out samples"}),
        ({"n_types": 1}, {"held_out": "fewer than two cell types", "in_turn": "fewer than two cell types"}),
        ({"unlabelled": 60}, {"held_out": "types", "in_turn": "types", "integration": "fewer than ten"}),
    ],
    ids=["no test samples", "one type", "no labels"],
)
def test_what_cannot_be_measured_is_said(trained, tmp_path, data, tasks):
    folder = write_planted(tmp_path / "data", **data)
    embeddings(folder, tmp_path / "out", "--embeddings-cells", 400, model=trained / "run/best_model.pt")
    tables, told = read(tmp_path / "out")
    assert {name for name, said in told["tasks"].items() if "why_not" in said} == tasks.keys()
    for name, reason in tasks.items():
        assert reason in told["tasks"][name]["why_not"]
        assert name not in set(tables["embeddings"]["task"])
    assert len(tables["genes"]) == N_GENES and len(tables["frequency"])


def test_one_sample_alone(trained, tmp_path):
    """One donor, one type: no batch and no type to tell; genes are still looked at."""
    folder = write_planted(tmp_path / "data", n_test=11, n_types=1, per_sample=110)
    cells = read_split(folder / "shards.json", "train")
    assert len(set(cells.sample.labels())) == 1
    shutil.copy(folder / "valid.parquet", folder / "test.parquet")
    listed = json.loads((folder / "shards.json").read_text())
    listed["splits"]["test"]["files"] = []
    (folder / "shards.json").write_text(json.dumps(listed))
    embeddings(folder, tmp_path / "out", model=trained / "run/best_model.pt")
    tables, told = read(tmp_path / "out")
    assert all("why_not" in said for said in told["tasks"].values())
    assert not len(tables["embeddings"])
    assert len(tables["frequency"])


def test_refusals(trained, tmp_path, capsys):
    other = write_planted(tmp_path / "other", per_sample=20)
    shutil.copy(other / "raw.h5ad", tmp_path / "raw.h5ad")
    for name in (
        "shards.json",
        "vocab.json",
        "samples.parquet",
        "run",
        "train.parquet",
        "valid.parquet",
        "test.parquet",
    ):
        (tmp_path / name).symlink_to(trained / name)
    embeddings(tmp_path, tmp_path / "out", code=2)
    assert "are in none of them" in capsys.readouterr().err
    embeddings(trained, tmp_path / "out", "--embeddings-cells", "99", code=2)
    assert "embeddings.cells is 99: at least 100, or 0" in capsys.readouterr().err


def test_nothing_is_measured_where_nothing_is_asked(trained, tmp_path):
    embeddings(trained, tmp_path, "--embeddings-cells", "0")
    tables, told = read(tmp_path)
    assert told == {"measured": False}
    assert not any(len(table) for table in tables.values())


def test_scvi_is_an_extra(trained, tmp_path, capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "scvi", None)
    embeddings(trained, tmp_path / "out", "--embeddings-scvi", "true", code=2)
    assert "pip install 'censusformer[scvi]'" in capsys.readouterr().err
