"""Fine-tuning and predictions by command, on real cells with labels that can be learned."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from own_cells import real_cells, vocabulary_for, write_model

import censusformer
from censusformer.cli import main
from censusformer.errors import InputError
from censusformer.steps._labelled import folds_of

REAL = real_cells(n=400)
VOCABULARY = vocabulary_for(REAL)
QUICK = ["--finetune-folds", "3", "--finetune-epochs", "25", "--finetune-lr", "0.01"]


def labelled():
    """400 real cells of six invented persons, labelled by the share of their counts on ribosomal proteins."""
    adata = REAL.copy()
    ribosomal = adata.X[:, adata.var_names.str.startswith("RP")].sum(1)
    share = np.asarray(ribosomal / adata.X.sum(1)).ravel()
    adata.obs["cell_type"] = np.array(["low", "middle", "high"])[np.digitize(share, np.quantile(share, [0.4, 0.7]))]
    adata.obs.loc[adata.obs_names[:20], "cell_type"] = "unknown"
    adata.obs["person"] = [f"p{i % 6}" for i in range(400)]
    return adata


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "best_model.pt", VOCABULARY)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "mine.h5ad"
    labelled().write_h5ad(file)
    return file


def finetune(path, file, out, *options):
    options = ["--model", path, "--h5ad", file, "--out", out, *QUICK, *options]
    return main(["finetune", *map(str, options)])


@pytest.fixture(scope="module")
def out(path, file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetuned")
    assert finetune(path, file, folder, "--finetune-seeds", "0", "1") == 0
    return folder


def test_scores_are_of_persons_held_out_beside_the_baseline(out):
    found = json.loads((out / "scores.json").read_text())
    assert (found["task"], found["label"], found["cells"], found["persons"]) == ("annotation", "cell_type", 380, 6)
    assert sum(found["labels"].values()) == 380
    assert [score["seed"] for score in found["scores"]] == [0, 1]
    for score in found["scores"]:
        assert score["model"]["value"] == pytest.approx(score["macro_f1"])
        assert score["model"]["low"] <= score["model"]["value"] <= score["model"]["high"]
        assert score["lead"]["value"] == pytest.approx(score["model"]["value"] - score["logistic_hvg"]["value"])
        assert 0 <= score["unknown"] <= 1
        assert score["macro_f1"] > 0.4  # a third would be chance


def test_predictions_are_what_scores_rest_on(out):
    frame = pq.read_table(out / "predictions.parquet").to_pandas()
    assert len(frame) == 2 * 380
    by_person = frame.groupby("person")["fold"].nunique()
    assert (by_person == 1).all()
    one = frame[frame["seed"] == 0]
    accuracy = json.loads((out / "scores.json").read_text())["scores"][0]["accuracy"]
    assert np.mean(one["label"] == one["predicted"]) == pytest.approx(accuracy)
    assert set(one["name"]) == set(REAL.obs_names[20:])


def test_predict_labels_new_cells_and_python_says_the_same(out, file, tmp_path):
    target = tmp_path / "labelled.h5ad"
    options = ["--model", out / "finetuned.pt", "--h5ad", file, "--out", target]
    assert main(["predict", *map(str, options)]) == 0
    found = ad.read_h5ad(target)
    assert list(found.obs.columns[-2:]) == ["censusformer_cell_type", "censusformer_cell_type_confidence"]
    assert (found.obs.drop(columns=found.obs.columns[-2:]) == ad.read_h5ad(file).obs).all(axis=None)
    truth, labels = (found.obs[name].astype(str) for name in ("cell_type", "censusformer_cell_type"))
    called = (truth != "unknown") & (labels != "unknown")
    assert np.mean(truth[called] == labels[called]) > 0.5
    adata = REAL.copy()
    python = censusformer.load_finetuned(out / "finetuned.pt").predict(adata)
    assert python.tolist() == labels.tolist() == adata.obs["censusformer_cell_type"].tolist()
    again = tmp_path / "again.h5ad"
    options = ["--model", out / "finetuned.pt", "--h5ad", target, "--out", again, "--unknown", "1"]
    assert main(["predict", *map(str, options)]) == 0  # columns that are there are replaced
    assert set(ad.read_h5ad(again).obs["censusformer_cell_type"]) == {"unknown"}


def test_unknown_is_below_the_confidence_that_was_asked_for(out):
    adata = REAL.copy()
    model = censusformer.load_finetuned(out / "finetuned.pt")
    labels = model.predict(adata, unknown=0.7)
    confidence = adata.obs["censusformer_cell_type_confidence"]
    assert confidence.dtype == np.float32
    np.testing.assert_array_equal(labels == "unknown", confidence < 0.7)
    assert 0 < np.mean(labels == "unknown") < 1


def test_a_prediction_hangs_on_the_cell_alone(out):
    model = censusformer.load_finetuned(out / "finetuned.pt")
    whole, rows = model.predict(REAL.copy()), np.random.default_rng(0).permutation(400)[:50]
    assert model.predict(REAL[rows].copy()).tolist() == whole[rows].tolist()


def test_the_same_options_give_the_same_bytes(path, file, out, tmp_path):
    finetune(path, file, tmp_path, "--finetune-seeds", "0", "1")
    for name in ("finetuned.pt", "scores.json", "predictions.parquet"):
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()


@pytest.mark.slow
def test_the_encoder_is_trained_along_where_asked_for(path, file, tmp_path):
    options = ["--finetune-mode", "full", "--finetune-epochs", "2"]
    assert finetune(path, file, tmp_path, *options) == 0
    one, two = censusformer.load(path).module, censusformer.load_finetuned(tmp_path / "finetuned.pt").encoder
    assert any((p != q).any() for p, q in zip(one.parameters(), two.parameters(), strict=True))


def test_folds_keep_persons_whole():
    persons = np.array([f"p{i % 7}" for i in range(70)], object)
    folds = folds_of(persons, 3)
    assert set(folds) == {0, 1, 2}
    assert pd.Series(folds).groupby(persons).nunique().max() == 1
    np.testing.assert_array_equal(folds[::-1], folds_of(persons[::-1], 3))
    assert folds_of(np.array(list("abc")), 9).max() == 2
    with pytest.raises(InputError, match=r"of 2 person \(a, b\): three are needed"):
        folds_of(np.array(["a", "b", "a"]), 3)


@pytest.mark.parametrize(
    "case", ["label", "once", "one", "none", "persons", "column", "mode", "task", "model", "normalised"]
)
def test_bad_input_is_one_line(path, tmp_path, case, capsys):
    adata, options, model = labelled(), [], path
    if case == "label":
        options = ["--finetune-label", "celltype"]
    elif case == "once":
        adata.obs.loc[adata.obs_names[30], "cell_type"] = "rare"
    elif case == "one":
        adata.obs["cell_type"] = "same"
    elif case == "none":
        adata.obs["cell_type"] = "unknown"
    elif case == "persons":
        adata.obs["person"] = "p1"
    elif case == "column":
        options = ["--finetune-person", "donor"]
    elif case == "mode":
        options = ["--finetune-mode", "half"]
    elif case == "task":
        options = ["--task", "nonsense"]
    elif case == "model":
        model = tmp_path / "absent.pt"
    else:
        adata.X = adata.X.log1p()
    adata.write_h5ad(tmp_path / "mine.h5ad")
    words = {
        "label": "mine.h5ad: obs has no column 'celltype' (finetune.label); it has donor_id, cell_type, person",
        "once": "the label 'rare' is seen once, so nothing can be learned of it",
        "one": "all cells have the label 'same'",
        "none": "no cell has a label in obs.cell_type but 'unknown'",
        "persons": "are of 1 person (p1): three are needed",
        "column": "obs has no column 'donor' (finetune.person)",
        "mode": "finetune.mode 'half': frozen or full",
        "task": "task 'nonsense': one of annotation",
        "model": "absent.pt is missing",
        "normalised": "X holds normalised values",
    }[case]
    assert finetune(model, tmp_path / "mine.h5ad", tmp_path / "out", *options) == 2
    text = capsys.readouterr().err
    assert words in text
    assert "Traceback" not in text
    assert not (tmp_path / "out").exists()


def test_labels_may_be_left_out_and_cells_split_without_persons(path, tmp_path, caplog):
    adata = labelled()
    adata.obs.loc[adata.obs_names[30], "cell_type"] = "rare"
    adata.write_h5ad(tmp_path / "mine.h5ad")
    log = tmp_path / "log.txt"
    options = [
        "--ignore",
        "rare",
        "low",
        "unknown",
        "--finetune-person",
        "none",
        "--finetune-epochs",
        "1",
        "--log",
        log,
    ]
    assert finetune(path, tmp_path / "mine.h5ad", tmp_path / "out", *options) == 0
    assert "split by cell, not by person" in log.read_text()
    assert set(json.loads((tmp_path / "out/scores.json").read_text())["labels"]) == {"middle", "high"}


def test_models_that_are_not_fine_tuned_are_refused(path, file, tmp_path, capsys):
    options = ["--model", path, "--h5ad", file, "--out", tmp_path / "out.h5ad"]
    assert main(["predict", *map(str, options)]) == 2
    assert "is no finetuned that censusformer wrote" in capsys.readouterr().err


def test_a_fine_tuned_model_is_one_file_even_where_the_pretrained_one_is_not(file, tmp_path):
    old = write_model(tmp_path / "old" / "best_model.pt", VOCABULARY, about={"vocabulary": None})
    VOCABULARY.write(tmp_path / "old" / "vocab.json")
    assert finetune(old, file, tmp_path / "out", "--finetune-epochs", "1") == 0
    assert len(censusformer.load_finetuned(tmp_path / "out" / "finetuned.pt").predict(REAL[:3].copy())) == 3
