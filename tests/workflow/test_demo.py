"""The demo, smaller than `make demo`, from nothing to the page."""

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from .conftest import SMALL, Project

pytestmark = pytest.mark.slow


def test_everything_is_there(small_demo):
    for name in ("best_model.pt", "last.ckpt", "metrics.csv", "args.json", "vocab.json", "report.html", "config.yaml"):
        assert small_demo.path(f"demo/base/{name}").stat().st_size > 0, name


def test_second_call_does_nothing(small_demo):
    assert "Nothing to be done" in small_demo.run(**SMALL)


def test_select_announced_the_download(small_demo):
    log = small_demo.path("demo/logs/select.log").read_text()
    assert "cells" in log and "GB" in log


def test_sets_are_whole_samples_apart(small_demo):
    samples = pq.read_table(small_demo.path("demo/samples.parquet")).to_pandas()
    chosen = samples[samples["status"] != "out"]
    assert chosen["n_cells"].sum() <= SMALL["census"]["max_cells"]
    assert samples.loc[samples["status"] == "out", "reason"].str.len().min() > 0
    in_shards = {
        split: {
            sample
            for file in small_demo.path(f"demo/shards/{split}").iterdir()
            for sample in pq.read_table(file, columns=["sample"])["sample"].to_pylist()
        }
        for split in ("train", "valid", "test")
    }
    assert in_shards["test"] == set(samples.loc[samples["status"] == "test", "sample"])
    assert in_shards["train"] == set(samples.loc[samples["status"] == "train", "sample"])
    assert in_shards["valid"] <= in_shards["train"] and not in_shards["test"] & in_shards["train"]


def test_model_is_best_epoch_and_loads_without_pickle(small_demo):
    model = torch.load(small_demo.path("demo/base/best_model.pt"), weights_only=True)
    assert isinstance(model, dict)
    metrics = pd.read_csv(small_demo.path("demo/base/metrics.csv"))
    valid = metrics[(metrics["split"] == "valid") & (metrics["head"] == "sum") & metrics["mask_ratio"].isna()]
    assert valid["mse"].iloc[-1] < valid["mse"].iloc[0]


def test_effective_config_builds_the_same_run(small_demo):
    settings = yaml.safe_load(small_demo.path("demo/base/config.yaml").read_text())
    assert "Nothing to be done" in small_demo.run(**settings)


def test_same_seed_same_bytes_and_same_curve(small_demo, tmp_path, root):
    again = Project(tmp_path, root)
    again.run("results/demo/base/best_model.pt", **SMALL)
    names = sorted(
        path.relative_to(small_demo.path("demo")) for path in small_demo.path("demo/shards").rglob("*.parquet")
    )
    assert names
    for name in [*names, "vocab.json", "shards.json", "samples.parquet", "genes.parquet"]:
        assert again.path("demo").joinpath(name).read_bytes() == small_demo.path("demo").joinpath(name).read_bytes()
    curves = [pd.read_csv(p.path("demo/base/metrics.csv")).drop(columns="seconds") for p in (small_demo, again)]
    pd.testing.assert_frame_equal(*curves, check_exact=True)


def test_other_training_prepares_nothing(copied):
    shown = copied.run("-n", **{**SMALL, "train": {"epochs": 3}})
    assert "pretrain" in shown and "evaluate" in shown
    for rule in ("demo", "select", "download", "hvg", "tokenize"):
        assert f"\n{rule} " not in shown, rule


def test_execution_runs_nothing(copied):
    assert "Nothing to be done" in copied.run(**{**SMALL, "execution": {"log_every": 7, "num_workers": 0}})


@pytest.mark.parametrize(
    "overrides",
    [
        {"hvg": {"scope": "all", "flavor": "seurat"}},
        {"binning": {"method": "global", "ties": "middle"}, "split": {"by": "sample", "valid_fraction": 0.3}},
    ],
    ids=["shared_list_by_seurat", "global_bins_and_split_by_sample"],
)
def test_other_readings_of_the_brief(copied, overrides):
    settings = {**SMALL, "train": {"max_steps": 3}, "dataset": "other", **overrides}
    shown = copied.run(**settings)
    assert "Fetching" not in shown  # another data set of the same cells downloads nothing
    assert copied.path("other/base/report.html").exists()


def test_full_size_presets_train_on_a_simulated_census(copied):
    """Ten steps of the 12-layer model of each preset on the demo's SOMA, by the preset's own settings otherwise."""
    simulated = {
        "census": {"version": None, "uri": "demo", "max_cells": 800, "test_cells": 300},
        "filter": {"min_counts_per_gene": 3, "min_genes_per_cell": 40},
        "train": {"max_steps": 10},
    }
    for preset in ("blood-300k", "reference"):
        copied.run(f"results/{preset}/base/best_model.pt", preset=preset, **simulated)
        metrics = pd.read_csv(copied.path(f"{preset}/base/metrics.csv"))
        assert metrics["step"].max() == 10
        model = torch.load(copied.path(f"{preset}/base/best_model.pt"), weights_only=True)["model"]
        assert (model["n_layers"], model["d_model"], model["n_heads"], model["d_ff"]) == (12, 512, 8, 512)
