"""What the step `embeddings` writes, made small, with known numbers."""

import json

import numpy as np
import pandas as pd

from censusformer.report.embedded import CLASSIFIED, INTEGRATED, NAMES

SCORES = {"model_cls": 0.8, "model_mean": 0.7, "pca": 0.75, "harmony": 0.72, "gene_set": 0.85,
          "untrained_cls": 0.4, "untrained_mean": 0.35}  # fmt: skip
LABELLED = {"n": 90, "n_classes": 3, "n_persons": 6, "n_fitted": 200, "in_turn": False}
MISSING = "there are no held-out samples"


def scores(tasks=("held_out", "in_turn"), values=SCORES):
    """Every metric of a representation has its one value."""
    rows = []
    for task in tasks:
        for name, value in values.items():
            rows += [(name, task, metric, value, value - 0.1, value + 0.1, 90) for metric in CLASSIFIED]
        rows += [("majority", task, f"majority_{metric}", 0.3, 0.2, 0.4, 90) for metric in ("accuracy", "macro_f1")]
    for name, value in values.items():
        for metric in INTEGRATED:
            task = "mixing" if metric in ("silhouette_batch", "ilisi", "kbet") else "clusters"
            rows.append((name, task, metric, value, np.nan, np.nan, 90))
        rows += [
            (name, task, "linear_accuracy", value, np.nan, np.nan, 50) for task in ("tells_sample", "tells_dataset")
        ]
    rows += [
        ("majority", task, "majority_accuracy", 0.2, np.nan, np.nan, 50) for task in ("tells_sample", "tells_dataset")
    ]
    assert {row[0] for row in rows} <= set(NAMES)
    return pd.DataFrame(rows, columns=["representation", "task", "metric", "value", "low", "high", "n"])


def umap(label="T cell", n=30):
    rng = np.random.default_rng(0)
    parts = [
        pd.DataFrame({"representation": name, "x": rng.normal(size=n), "y": rng.normal(size=n),
                      "cell_type": [label, "B cell", ""] * (n // 3), "donor": [f"p{i % 12:02d}" for i in range(n)],
                      "dataset": "d"})
        for name in ("model_cls", "pca")
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def genes():
    return pd.DataFrame({"feature_name": ["CD79A", "LYZ", "G1"], "n_cells": [900, 20, 3],
                         "neighbours": [["MS4A1", "CD79B"], ["S100A8"], []],
                         "cosines": [[0.9, 0.8], [0.7], []]})  # fmt: skip


def markers():
    columns = ["representation", "set", "metric", "value", "expected", "low", "high", "p", "n"]
    rows = [("model", "B cell", "similarity", 0.6, 0.1, 0.0, 0.2, 0.001, 9),
            ("model", "T cell", "similarity", 0.1, 0.1, 0.0, 0.2, 0.4, 9),
            ("untrained", "B cell", "similarity", 0.0, 0.0, -0.1, 0.1, 0.5, 9),
            ("model", "all", "nearest_marker", 0.7, 0.1, 0.0, 0.2, 0.001, 18)]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def frequency():
    columns = ["at_least", "below", "n_genes", "n", "predictor", "mse", "low", "high"]
    rows = [(low, high, 5, 100, name, error + shift, np.nan, np.nan)
            for low, high, shift in ((0, 1.0, 50), (100000, np.nan, 0))
            for name, error in (("gep", 140.0), ("gepc", 142.0), ("gene_mean", 160.0))]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def told(**missing):
    """`embeddings.json`; tasks in `missing` have the reason given."""
    tasks = dict.fromkeys(("held_out", "in_turn", "tells_sample", "tells_dataset"), LABELLED)
    tasks |= {"integration": {"n": 90, "n_classes": 3, "n_persons": 6, "batch": "dataset"}}
    tasks |= {name: {"why_not": reason} for name, reason in missing.items()}
    cells = {"train": 300, "test": 100, "train_labelled": 250, "test_labelled": 90}
    return {"measured": True, "cells": cells, "tasks": tasks, "genes_scored_on": "test"}


def write_embedded(folder, *, label="T cell", pictures=True, **missing):
    """Write all tables of the step into a folder."""
    measured = [task for task in ("held_out", "in_turn") if task not in missing]
    table = scores(measured)
    for task, of_task in (("integration", ("clusters", "mixing")), ("tells_sample", ("tells_sample",)),
                          ("tells_dataset", ("tells_dataset",))):  # fmt: skip
        if task in missing:
            table = table[~table["task"].isin(of_task)]
    parts = {"embeddings": table, "umap": umap(label) if pictures else umap(label).iloc[:0], "genes": genes(),
             "markers": markers(), "frequency": frequency()}  # fmt: skip
    for name, frame in parts.items():
        frame.to_parquet(folder / f"{name}.parquet", index=False)
    (folder / "embeddings.json").write_text(json.dumps(told(**missing)))
