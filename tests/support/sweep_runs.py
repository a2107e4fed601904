"""Folders of finished runs, as a sweep leaves them, with errors that follow a known law."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml

from censusformer.evaluation.scores import COLUMNS
from censusformer.steps._tables import write_table

N_SAMPLES, N, FLOOR, GENE_MEAN = 8, 1000, 30.0, 150.0
BASE = {
    "census": {"max_cells": None},
    "binning": {"ties": "random"},
    "model": {"dropout": 0.1, "d_model": 32},
    "train": {"seed": 0, "epochs": 2, "max_steps": None},
    "evaluate": {"max_cells": 100},
}


def by_sample(errors, floor=FLOOR):
    """Sums of two splits for a model with these errors (GEP, GEPC); samples differ in difficulty."""
    rows = []
    for split, n_samples in (("valid", N_SAMPLES), ("test", N_SAMPLES)):
        for i in range(n_samples):
            ease = 1 + 0.1 * np.sin(i)
            for head, predictor, error in (
                ("gep", "model", errors[0]), ("gepc", "model", errors[1]), (None, "gene_mean", GENE_MEAN)
            ):  # fmt: skip
                sums = [N, 25 * N, 800 * N, error * ease * N, 5 * N, 40.0, 100, GENE_MEAN * ease * N, floor * N]
                rows.append([split, f"s{i}", True, 0.5, head, predictor, *sums])
    columns = ["split", "sample", "seen_dataset", "mask_ratio", "head", "predictor", *COLUMNS]
    return pd.DataFrame(rows, columns=columns).astype({"head": "object"})


def metrics(start, end, steps, epochs=3):
    """Validation and fixed training losses that fall from start to end."""
    rows = []
    for epoch in range(epochs + 1):
        loss = end + (start - end) * 0.5 ** (2 * epoch)
        for split, value in (("valid", loss), ("train_fixed", loss - epoch)):
            for head, part in (("gep", value / 2), ("gepc", value / 2), ("sum", value)):
                rows.append([epoch, epoch * steps // epochs, split, head, None, part, 1000, 1.0, "epoch"])
    columns = ["epoch", "step", "split", "head", "mask_ratio", "mse", "n_masked", "seconds", "span"]
    return pd.DataFrame(rows, columns=columns)


def write_run(folder, changes, errors, *, cells=1000, parameters=5000, steps=300, floor=FLOOR, f1=None):
    """One finished run; `changes` are dotted keys, `f1` the cell types' macro-F1."""
    sections = {name: dict(keys) for name, keys in BASE.items()}
    for key, value in changes.items():
        section, leaf = key.split(".")
        sections[section][leaf] = value
    (folder / "evaluation").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"dataset": folder.parent.name, "run": folder.name, **sections}))
    args = {
        "data": {"train_cells": cells},
        "parameters": {"total": 2 * parameters, "non_embedding": parameters},
        "result": {"steps": steps, "seconds": 66.0, "cells_per_second": 100.0},
    }
    (folder / "args.json").write_text(json.dumps(args))
    metrics(290.0, sum(errors), steps).to_csv(folder / "metrics.csv", index=False)
    table = pa.Table.from_pandas(by_sample(errors, floor), preserve_index=False)
    write_table(folder / "evaluation/by_sample.parquet", table)
    if f1 is not None:
        rows = [("model_cls", "in_turn", "logistic_macro_f1", f1), ("pca", "in_turn", "logistic_macro_f1", 0.5)]
        scores = pd.DataFrame(rows, columns=["representation", "task", "metric", "value"])
        write_table(folder / "evaluation/embeddings.parquet", pa.Table.from_pandas(scores, preserve_index=False))
    return folder
