"""Measuring for the step `evaluate`: the model and the baselines beside it, scored on the same masks."""

import argparse
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from censusformer.evaluation import baselines
from censusformer.evaluation.masked import MaskedCells
from censusformer.evaluation.reconstruction import HEADS, Labels, Measured, by_sample, measure, summary, table
from censusformer.evaluation.ridge import fit_ridge
from censusformer.files import atomic
from censusformer.hashing import draw, uniform, word
from censusformer.steps._tables import write_table
from censusformer.tokens.cells import Cells
from censusformer.tokens.masking import evaluation_mask
from censusformer.tokens.vocabulary import Vocabulary

logger = logging.getLogger("censusformer")
_FITTED, _HELD_OUT = word("censusformer baselines: fitted on"), word("censusformer baselines: strength chosen on")
HELD_OUT = 0.1
Predict = Callable[[Cells, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Data:
    """What is evaluated, and what baselines are fitted on.

    Parameters
    ----------
    train
        All training cells.
    fitted
        The training cells that shift and ridge are fitted on.
    splits
        Validation cells, and test cells where there are any.
    vocabulary
        The genes.
    dataset_number
        Data sets that have training cells, by number.
    """

    train: Cells
    fitted: Cells
    splits: dict[str, Cells]
    vocabulary: Vocabulary
    dataset_number: dict[str, int]

    @classmethod
    def of(cls, train: Cells, splits: dict[str, Cells], vocabulary: Vocabulary, max_cells: int) -> "Data":
        """Choose by hash which training cells shift and ridge are fitted on, at most `max_cells`."""
        by_hash = np.argsort(draw(_FITTED, train.cell), kind="stable")
        fitted = train.take(np.sort(by_hash[:max_cells]))
        used = np.unique(train.dataset_id.codes)
        return cls(train, fitted, splits, vocabulary, {train.dataset_id.names[code]: i for i, code in enumerate(used)})

    @property
    def everything(self) -> dict[str, Cells]:
        """Training cells and those that are evaluated."""
        return {"train": self.train, **self.splits}

    def masked(self, cells: Cells, ratio: float) -> MaskedCells:
        """Mask cells as the model sees them."""
        mask = evaluation_mask(cells, self.vocabulary.gene_words, ratio)
        numbers = np.array([self.dataset_number.get(name, -1) for name in cells.dataset_id.names], np.int64)
        return MaskedCells(cells.offsets, cells.genes, cells.values, mask, numbers[cells.dataset_id.codes])


def load_predictor(path: Path, precision: str, threads: int | None) -> tuple[Predict, dict[str, Any]]:
    """Load a model: what it predicts (GEP and GEPC at masked positions), and what its file says of itself."""
    import torch

    from censusformer.training import load_model, predict_masked, set_threads

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, about = load_model(path, device)
    set_threads(model.config.d_model, threads)
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "32"
    dtype = {"bf16": torch.bfloat16, "16": torch.float16}.get(precision)

    def predict(cells: Cells, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            return predict_masked(model, cells, mask)

    return predict, about


def measure_all(
    data: Data, labels: dict[str, Labels], predict: Predict, ratios: Sequence[float], components: int
) -> tuple[dict[str, list[Measured]], dict[str, dict[str, float | None]]]:
    """Score model and baselines for each split and ratio; also the strengths that training cells chose."""
    everything = data.masked(data.train, ratios[0])  # the means take all tokens, masked or not
    means = baselines.fit_means(everything, data.vocabulary.n_genes, len(data.dataset_number))
    measured: dict[str, list[Measured]] = {name: [] for name in data.splits}
    chosen = {}
    for ratio in ratios:
        predictors, chosen[str(ratio)] = _fit(data, means, ratio, components)
        for name, cells in data.splits.items():
            masked = data.masked(cells, ratio)
            predictions = {(None, key): function(masked) for key, function in predictors.items()}
            predictions["gep", "model"], predictions["gepc", "model"] = predict(cells, masked.mask)
            measured[name].append(measure(masked, labels[name], predictions, ratio))
    return measured, chosen


def _fit(
    data: Data, means: baselines.Means, ratio: float, components: int
) -> tuple[dict[str, Callable[[MaskedCells], np.ndarray]], dict[str, float | None]]:
    """Fit the baselines that depend on the mask; all by name, and the strengths that training cells chose."""
    masked = data.masked(data.fitted, ratio)
    shrinkage = baselines.fit_shift(means, masked)
    held_out = uniform(draw(_HELD_OUT, data.fitted.cell)) < HELD_OUT
    ridge = fit_ridge(masked, means.gene, held_out, components)
    logger.info(
        "baselines at mask ratio %g: ridge penalty %g, the cell's shift shrunk by the weight of %g genes",
        ratio,
        ridge.strength,
        shrinkage,
    )
    predictors = {
        "constant": partial(baselines.predict_constant, means),
        "gene_mean": partial(baselines.predict_gene_mean, means),
        "gene_mean_shift": partial(baselines.predict_gene_mean_shift, means, shrinkage),
        "gene_dataset_mean": partial(baselines.predict_gene_dataset_mean, means),
        "ridge": ridge.predict,
    }
    none = np.isinf(shrinkage)  # no shift at all, which JSON cannot say
    return predictors, {"ridge_strength": ridge.strength, "shift_shrinkage": None if none else shrinkage}


def told_of(about: dict[str, Any]) -> dict[str, Any]:
    """What the model's file says of itself, without its losses."""
    return {key: about[key] for key in ("epoch", "step", "n_bins", "max_length", "vocab_sha256", "args")}


def write_evaluation(
    args: argparse.Namespace,
    data: Data,
    labels: dict[str, Labels],
    measured: dict[str, list[Measured]],
    told: dict[str, Any],
) -> None:
    """Write the tables, and what the first sentence of a report needs of them."""
    frame = pd.concat([table(name, measured[name], labels[name].groups()) for name in data.splits], ignore_index=True)
    sums = [by_sample(name, measured[name], labels[name], cells.sample.names) for name, cells in data.splits.items()]
    splits = {name: {**_counts(cells), **summary(frame, name, measured[name])} for name, cells in data.splits.items()}
    cells = {"means": len(data.train), "shift_and_ridge": len(data.fitted)}
    found = {**told, "ratios": args.evaluate_ratios, "cells": cells}
    found |= {"headline": "test" if "test" in splits else "valid", "splits": splits}
    for name, rows in (("reconstruction", frame), ("by_sample", pd.concat(sums, ignore_index=True))):
        write_table(args.out / f"{name}.parquet", pa.Table.from_pandas(rows, preserve_index=False))
    write_json(args.out / "summary.json", found)
    _log(splits)


def write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def _log(splits: dict[str, Any]) -> None:
    for name, split in splits.items():
        for head in HEADS:
            others = ", ".join(f"{key} {value['mse']:.1f}" for key, value in split[head]["baselines"].items())
            logger.info("%s %s: model %.1f; %s; floor of the ties %.1f",
                        name, head, split[head]["model"]["mse"], others, split[head]["tie_floor"])  # fmt: skip


def _counts(cells: Cells) -> dict[str, int]:
    n_samples = len(np.unique(cells.sample.codes))
    return {"n_cells": len(cells), "n_tokens": len(cells.genes), "n_samples": n_samples}
