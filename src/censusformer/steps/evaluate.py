"""Measures a model beside its baselines on validation cells and on the held-out test samples.

Reads `best_model.pt`, `shards.json` and the shards that it lists, `vocab.json` and `samples.parquet`; writes
`reconstruction.parquet`, `by_sample.parquet` and `summary.json`.
"""

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

from censusformer.errors import InputError
from censusformer.evaluation import baselines
from censusformer.evaluation.masked import MaskedCells
from censusformer.evaluation.reconstruction import HEADS, Labels, Measured, by_sample, measure, summary, table
from censusformer.evaluation.ridge import fit_ridge
from censusformer.files import atomic
from censusformer.hashing import draw, uniform, word
from censusformer.steps._tables import read_table, write_table
from censusformer.tokens.cells import Cells
from censusformer.tokens.masking import evaluation_mask
from censusformer.tokens.shards import read_manifest, read_split
from censusformer.tokens.vocabulary import Vocabulary

logger = logging.getLogger("censusformer")
_FITTED, _HELD_OUT = word("censusformer baselines: fitted on"), word("censusformer baselines: strength chosen on")
HELD_OUT = 0.1
Predict = Callable[[Cells, np.ndarray], tuple[np.ndarray, np.ndarray]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this step."""
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="PT", help="the model (best_model.pt)")
    add("--shards", type=Path, required=True, metavar="JSON", help="list of shards (shards.json)")
    add("--vocab", type=Path, required=True, metavar="JSON", help="vocabulary (vocab.json)")
    add("--samples", type=Path, required=True, metavar="PARQUET", help="the samples: which data sets train")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for reconstruction.parquet and summary.json")
    add("--evaluate-ratios", type=float, nargs="+", default=[0.25, 0.5, 0.75], help="mask ratios")
    add("--evaluate-ridge-components", type=int, default=20, help="principal components that ridge regression sees")
    add("--evaluate-max-cells", type=int, default=20000, help="training cells for shift and ridge, at most")
    _add_execution(parser.add_argument_group("execution: how it runs, never what comes out"))


def _add_execution(group: Any) -> None:
    group.add_argument(
        "--execution-precision", choices=["auto", "32", "tf32", "bf16", "16"], default="auto", help="of the model"
    )
    unused = "devices", "nodes", "num-workers", "compile", "attention", "memory", "log-every", "checkpoint-minutes"
    for name in unused:
        group.add_argument(f"--execution-{name}", help="taken for uniformity; this step runs on one device")
    group.add_argument("--threads", type=int, help="CPU threads of PyTorch (default: PyTorch's own choice)")


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

    def masked(self, cells: Cells, ratio: float) -> MaskedCells:
        """Mask cells as the model sees them."""
        mask = evaluation_mask(cells, self.vocabulary.gene_words, ratio)
        numbers = np.array([self.dataset_number.get(name, -1) for name in cells.dataset_id.names], np.int64)
        return MaskedCells(cells.offsets, cells.genes, cells.values, mask, numbers[cells.dataset_id.codes])


def run(args: argparse.Namespace) -> None:
    """Evaluate one model."""
    _check_settings(args)
    vocabulary = Vocabulary.read(args.vocab)
    predict, about = _load(args, vocabulary)
    data = _read_data(args, vocabulary)
    _refuse_other_bins(args, about)
    labels = {name: _labels(cells, _training_datasets(args.samples)) for name, cells in data.splits.items()}
    measured, chosen = _measure(data, labels, predict, args.evaluate_ratios, args.evaluate_ridge_components)
    parts = [table(name, measured[name], labels[name].groups()) for name in data.splits]
    frame = pd.concat(parts, ignore_index=True)
    splits = {name: {**_counts(cells), **summary(frame, name, measured[name])} for name, cells in data.splits.items()}
    cells = {"means": len(data.train), "shift_and_ridge": len(data.fitted)}
    about = {"model": about, "ratios": args.evaluate_ratios, "chosen": chosen, "cells": cells}
    sums = [by_sample(name, measured[name], labels[name], cells.sample.names) for name, cells in data.splits.items()]
    write_table(args.out / "by_sample.parquet", pa.Table.from_pandas(pd.concat(sums), preserve_index=False))
    _write(args.out, frame, {**about, "headline": "test" if "test" in splits else "valid", "splits": splits})


def _measure(
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


def _check_settings(args: argparse.Namespace) -> None:
    if not all(0 < ratio < 1 for ratio in args.evaluate_ratios):
        raise InputError(f"evaluate.ratios are {args.evaluate_ratios}: each lies over 0 and below 1")
    args.evaluate_ratios = sorted(set(args.evaluate_ratios))
    for name in ("ridge_components", "max_cells"):
        if getattr(args, f"evaluate_{name}") < 1:
            raise InputError(f"evaluate.{name} is {getattr(args, f'evaluate_{name}')}: at least 1")


def _load(args: argparse.Namespace, vocabulary: Vocabulary) -> tuple[Predict, dict[str, Any]]:
    """Load the model; what it predicts (GEP and GEPC at masked positions), and what its file says of itself."""
    import torch

    from censusformer.training import load_model, predict_masked, set_threads

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, about = load_model(args.model, device)
    set_threads(model.config.d_model, args.threads)
    if about["vocab_sha256"] != vocabulary.sha256:
        raise InputError(f"{args.model} was trained with another vocabulary than {args.vocab}: give the one beside it")
    half = args.execution_precision
    if half == "auto":
        half = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "32"
    dtype = {"32": None, "bf16": torch.bfloat16, "16": torch.float16}[half]

    def predict(cells: Cells, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            return predict_masked(model, cells, mask)

    return predict, {key: about[key] for key in ("epoch", "step", "n_bins", "max_length", "vocab_sha256")}


def _read_data(args: argparse.Namespace, vocabulary: Vocabulary) -> Data:
    train, valid, test = (read_split(args.shards, name, vocabulary) for name in ("train", "valid", "test"))
    splits = {name: cells for name, cells in (("valid", valid), ("test", test)) if len(cells)}
    if not len(train) or not splits:
        raise InputError(f"{args.shards} lists no training cells, or neither validation nor test cells")
    if not len(test):
        logger.warning("no test cells (census.test_cells 0, or none was kept): validation alone is evaluated")
    by_hash = np.argsort(draw(_FITTED, train.cell), kind="stable")
    fitted = train.take(np.sort(by_hash[: args.evaluate_max_cells]))
    used = np.unique(train.dataset_id.codes)
    numbers = {train.dataset_id.names[code]: i for i, code in enumerate(used.tolist())}
    return Data(train, fitted, splits, vocabulary, numbers)


def _refuse_other_bins(args: argparse.Namespace, about: dict[str, Any]) -> None:
    n_bins = read_manifest(args.shards)["n_bins"]
    if n_bins != about["n_bins"]:
        raise InputError(
            f"{args.model} was trained on {about['n_bins']} bins, {args.shards} holds {n_bins} (binning.n_bins): "
            "evaluate it on the shards that it was trained on"
        )


def _training_datasets(samples: Path) -> set[str]:
    """Name the data sets that have training samples."""
    frame = read_table(samples, ["dataset_id", "status"]).to_pandas()
    return set(frame.loc[frame["status"].astype(str) == "train", "dataset_id"].astype(str))


def _labels(cells: Cells, training_datasets: set[str]) -> Labels:
    """Number the samples, and find out which belong to data sets with training samples."""
    dataset = np.zeros(len(cells.sample.names), np.int64)
    dataset[cells.sample.codes] = cells.dataset_id.codes
    seen = np.array([name in training_datasets for name in cells.dataset_id.names])[dataset]
    return Labels(cells.sample.codes, seen, cells.tie_var)


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


def _write(out: Path, frame: pd.DataFrame, found: dict[str, Any]) -> None:
    """Write the table, and what the first sentence of a report needs of it."""
    write_table(out / "reconstruction.parquet", pa.Table.from_pandas(frame, preserve_index=False))
    with atomic(out / "summary.json") as temporary:
        temporary.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
    for name, split in found["splits"].items():
        for head in HEADS:
            others = ", ".join(f"{key} {value['mse']:.1f}" for key, value in split[head]["baselines"].items())
            logger.info("%s %s: model %.1f; %s; floor of the ties %.1f",
                        name, head, split[head]["model"]["mse"], others, split[head]["tie_floor"])  # fmt: skip


def _counts(cells: Cells) -> dict[str, int]:
    n_samples = len(np.unique(cells.sample.codes))
    return {"n_cells": len(cells), "n_tokens": len(cells.genes), "n_samples": n_samples}
