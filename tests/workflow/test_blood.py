"""Real blood through ingest and the whole graph."""

import json
import shutil
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from told_apart import files_of, measured, shuffled, untrained

from censusformer.cli import main
from censusformer.files import with_checksum
from censusformer.report.findings import learned
from censusformer.tokens.shards import file_sha256, read_shard, write_shard

from .conftest import Project

pytestmark = [pytest.mark.slow, pytest.mark.blood]

# one of bone marrow, one with pooled donors, two with a person in common, one with many small samples
FILES = [
    "10x_1k_PBMC_v2_raw",
    "10x_1k_PBMC_v3_filt",
    "hao2021_speck",
    "kang_ctrl_stim",
    "savercat_3donors",
    "zheng_aml027_pre",
]
SMALL = {
    "census": {"h5ad": ["data/*.h5ad"], "test_cells": 400},
    "chunk": {"cells": 2000},
    "model": {"n_layers": 2, "d_model": 32, "d_ff": 64},
    "train": {"epochs": 4},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory, root, blood):
    project = Project(tmp_path_factory.mktemp("blood"), root)
    (project.folder / "data").mkdir()
    for name in FILES:
        (project.folder / f"data/{name}.h5ad").symlink_to(blood / f"{name}.h5ad")
    project.run(preset="blood-h5ad", **SMALL)
    return project


@pytest.fixture(scope="module")
def samples(run):
    return pq.read_table(run.path("blood-h5ad/samples.parquet")).to_pandas().set_index("sample")


def test_marrow_and_pooled_donors_are_left_out(samples):
    chosen = samples[samples["status"] != "out"]
    assert not chosen["dataset_id"].isin(["zheng_aml027_pre", "hao2021_speck"]).any()
    assert {"savercat_3donors", "kang_ctrl_stim"} <= set(chosen["dataset_id"])


def test_no_person_stands_on_both_sides(samples):
    chosen = samples[(samples["status"] != "out") & (samples["person"] != "unknown")]
    sides = chosen.groupby("person")["status"].nunique()
    assert (sides == 1).all()


def test_shards_are_what_the_raw_counts_say(run, root):
    """The contract's own check: vocabulary, HVGs, cells and bins rebuilt from raw counts by scanpy and NumPy."""
    check = root.parent / "shared/checks/check_shards.py"
    command = [sys.executable, str(check), "results/blood-h5ad", "data", "results/blood-h5ad/base/config.yaml"]
    done = subprocess.run(command, cwd=run.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "cells' bins within bounds" in done.stdout


def test_model_learns_more_than_a_constant(run):
    table = pq.read_table(run.path("blood-h5ad/base/evaluation/reconstruction.parquet")).to_pandas()
    mse = table[(table["split"] == "test") & (table["metric"] == "mse")].groupby(["predictor", "head"])["value"].mean()
    for head in ("gep", "gepc"):
        assert mse["tie_floor", head] < mse["model", head] < mse["constant", head]
        assert mse["gene_mean", head] < mse["constant", head]


def test_embeddings_of_real_types(run):
    """A small model that saw no label keeps the types of held-out persons together better than it began."""
    table = pq.read_table(run.path("blood-h5ad/base/evaluation/embeddings.parquet")).to_pandas()
    f1 = table[table["metric"] == "knn_macro_f1"].set_index(["task", "representation"])["value"]
    for task in ("held_out", "in_turn"):
        assert f1[task, "model_cls"] > f1[task, "untrained_cls"]
    told = table[table["metric"] == "linear_accuracy"].set_index(["task", "representation"])["value"]
    assert told["tells_dataset", "gene_set"] > 0.9  # a list of genes of one's own betrays the sample
    assert {"clusters", "mixing"} <= set(table["task"])


def test_models_that_learned_nothing_are_told_apart(run, tmp_path):
    """The graph's model beside its untrained twin and one trained on bins dealt out anew among a cell's genes."""
    data, base = run.path("blood-h5ad"), run.path("blood-h5ad/base")
    untrained(base / "best_model.pt", tmp_path / "untrained.pt")
    listed = json.loads((data / "shards.json").read_text())
    for split, content in listed["splits"].items():
        for file in content["files"]:
            cells, meta = read_shard(data / file["path"])
            path = tmp_path / "mixed" / file["path"]
            write_shard(path, cells if split == "test" else shuffled(cells), meta)
            file["sha256"] = file_sha256(path)
    (tmp_path / "mixed/shards.json").write_text(json.dumps(with_checksum(listed)))
    shutil.copy(data / "vocab.json", tmp_path / "mixed")
    size = ["--model-n-layers", "2", "--model-d-model", "32", "--model-d-ff", "64", "--train-max-steps", "150"]
    assert main(["pretrain", *files_of(tmp_path / "mixed"), "--out", str(tmp_path / "shuffled"), *size]) == 0
    models = {"good": base / "best_model.pt", "shuffled": tmp_path / "shuffled/best_model.pt"}
    models["untrained"] = tmp_path / "untrained.pt"
    found = {name: measured(model, data, tmp_path / f"{name}-evaluation") for name, model in models.items()}
    for head in ("gep", "gepc"):
        errors = {name: next(duel.model for duel in duels if duel.head == head) for name, duels in found.items()}
        baselines = {duel.baseline: duel.other for duel in found["good"] if duel.head == head}
        assert errors["good"] < baselines["gene_mean"] < errors["shuffled"] < errors["untrained"]
    assert "nothing of use" not in learned(found["good"])
    assert all(learned(found[name]).startswith("It learned nothing of use") for name in ("shuffled", "untrained"))


def test_page_names_the_data(run):
    page = run.path("blood-h5ad/base/report.html").read_text()
    assert "savercat_3donors" in page and "kang_ctrl_stim" in page
