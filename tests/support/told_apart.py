"""Models that learned nothing, and the evaluation of any model as the report reads it."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from censusformer.cli import main
from censusformer.model import ModelConfig, Pretrainer
from censusformer.report import tables
from censusformer.report.findings import duels
from censusformer.training.checkpoints import load, save


def shuffled(cells):
    """The same cells, each one's bins dealt out anew among its genes: nothing of a gene is left to learn."""
    rng = np.random.default_rng(3)
    order = np.lexsort((rng.random(cells.n_tokens), np.repeat(np.arange(len(cells)), cells.lengths)))
    return replace(cells, values=cells.values[order])  # noqa: PD011 - an array of Cells


def untrained(path, out):
    """The same model with fresh weights; its biases start where training's do not: at 0."""
    content = load(path, "model")
    torch.manual_seed(0)
    fresh = Pretrainer(ModelConfig(**content["model"])).state_dict()
    save(out, "model", {**content, "state_dict": fresh})


def files_of(data):
    return ["--shards", str(data / "shards.json"), "--vocab", str(data / "vocab.json")]


def measured(model, data, out):
    options = ["--samples", str(data / "samples.parquet"), "--evaluate-ridge-components", "3", "--out", str(out)]
    assert main(["evaluate", "--model", str(model), *files_of(data), *options]) == 0
    summary = json.loads((out / "summary.json").read_text())["splits"]["test"]
    intervals = {
        (head, name): (duel["low"], duel["high"])
        for head in ("gep", "gepc") for name, duel in summary[head]["baselines"].items()
        if duel["low"] is not None  # too few held-out samples for intervals
    }  # fmt: skip
    table = pd.read_parquet(out / "reconstruction.parquet")
    return duels(tables.errors(table, "test"), intervals)
