"""Measures a model beside its baselines on validation cells and on the held-out test samples.

Reads `best_model.pt`, `shards.json` and the shards that it lists, `vocab.json` and `samples.parquet`; writes
`reconstruction.parquet`, `by_sample.parquet`, `leakage.json` and `summary.json`. Data in which a person or a cell
stands on both sides are refused. With `--h5ad` it measures the model on cells of one's own instead, and writes
`by_label.parquet`, too, and with `--embeddings` how well labels are told from its embeddings (`embeddings.parquet`).
"""

import argparse
import importlib
import logging
from pathlib import Path
from typing import Any

import numpy as np

from censusformer.errors import InputError
from censusformer.evaluation.reconstruction import Labels
from censusformer.steps._evaluate import Data, Predict, load_predictor, measure_all, told_of, write_evaluation
from censusformer.steps._leakage import find_leakage, refuse_leakage, write_leakage
from censusformer.steps._options import add_reading_arguments
from censusformer.steps._tables import read_table
from censusformer.tokens.cells import Cells
from censusformer.tokens.shards import file_sha256, read_manifest, read_split
from censusformer.tokens.vocabulary import Vocabulary

logger = logging.getLogger("censusformer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this step."""
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="PT", help="the model (best_model.pt)")
    add("--shards", type=Path, metavar="JSON", help="list of shards (shards.json)")
    add("--vocab", type=Path, metavar="JSON", help="vocabulary (vocab.json)")
    add("--samples", type=Path, metavar="PARQUET", help="the samples: which data sets train")
    add("--cells", type=Path, nargs="*", default=[], metavar="PARQUET", help="chunks' cells: finds copies by counts")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the tables")
    add("--evaluate-ratios", type=float, nargs="+", default=[0.25, 0.5, 0.75], help="mask ratios")
    add("--evaluate-ridge-components", type=int, default=20, help="principal components that ridge regression sees")
    add("--evaluate-max-cells", type=int, default=20000, help="training cells for shift and ridge, at most")
    _add_own_arguments(parser)
    _add_execution(parser.add_argument_group("execution: how it runs, never what comes out"))


def _add_own_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options for one's own file."""
    group = parser.add_argument_group("your own cells instead of a run's: errors and labels of an h5ad file")
    group.add_argument("--h5ad", type=Path, metavar="FILE", help="cells with raw counts; --shards then fit baselines")
    group.add_argument("--label-key", default="cell_type", metavar="COLUMN", help="obs column of labels (%(default)s)")
    group.add_argument("--donor-key", default="donor_id", metavar="COLUMN", help="obs column of donors (%(default)s)")
    group.add_argument("--embeddings", action="store_true", help="tell labels from the model's embeddings, too, each "
        "donor held out in turn, beside baselines (needs the extra `embeddings`)")  # fmt: skip
    add_reading_arguments(group)


def _add_execution(group: Any) -> None:
    group.add_argument(
        "--execution-precision", choices=["auto", "32", "tf32", "bf16", "16"], default="auto", help="of the model"
    )
    unused = "devices", "nodes", "num-workers", "compile", "attention", "memory", "max-tokens", "log-every"
    for name in (*unused, "checkpoint-minutes"):
        group.add_argument(f"--execution-{name}", help="taken for uniformity; this step runs on one device")
    group.add_argument("--threads", type=int, help="CPU threads of PyTorch (default: PyTorch's own choice)")


def run(args: argparse.Namespace) -> None:
    """Evaluate one model, on the shards of a run or on one's own file."""
    _check_settings(args)
    predict, about = load_predictor(args.model, args.execution_precision, args.threads)
    if args.h5ad is None:
        _evaluate_run(args, predict, about)
        return
    # by name, as `cli` does: what it imports, from anndata to scib-metrics, is no part of the rule and its digest
    importlib.import_module("censusformer.steps._evaluate_own").evaluate_own(args, predict, about)


def _evaluate_run(args: argparse.Namespace, predict: Predict, about: dict[str, Any]) -> None:
    missing = [name for name in ("shards", "vocab", "samples") if getattr(args, name) is None]
    if missing:
        raise InputError(f"--{missing[0]} is needed; or --h5ad, for cells of your own")
    vocabulary = Vocabulary.read(args.vocab)
    _refuse_other(args, about, vocabulary)
    data = _read_data(args, vocabulary)
    leaks = find_leakage(data.everything, vocabulary, args.samples, args.cells)
    refuse_leakage(leaks, args.shards)
    trained = _training_datasets(args.samples)
    labels = {name: _labels(cells, trained) for name, cells in data.splits.items()}
    measured, chosen = measure_all(data, labels, predict, args.evaluate_ratios, args.evaluate_ridge_components)
    told = {"model": told_of(about), "shards_sha256": file_sha256(args.shards), "chosen": chosen}
    write_evaluation(args, data, labels, measured, told)
    write_leakage(args.out / "leakage.json", leaks)


def _check_settings(args: argparse.Namespace) -> None:
    if not all(0 < ratio < 1 for ratio in args.evaluate_ratios):
        raise InputError(f"evaluate.ratios are {args.evaluate_ratios}: each lies over 0 and below 1")
    args.evaluate_ratios = sorted(set(args.evaluate_ratios))
    for name in ("ridge_components", "max_cells"):
        if getattr(args, f"evaluate_{name}") < 1:
            raise InputError(f"evaluate.{name} is {getattr(args, f'evaluate_{name}')}: at least 1")


def _read_data(args: argparse.Namespace, vocabulary: Vocabulary) -> Data:
    train, valid, test = (read_split(args.shards, name, vocabulary) for name in ("train", "valid", "test"))
    splits = {name: cells for name, cells in (("valid", valid), ("test", test)) if len(cells)}
    if not len(train) or not splits:
        raise InputError(f"{args.shards} lists no training cells, or neither validation nor test cells")
    if not len(test):
        logger.warning("no test cells (census.test_cells 0, or none was kept): validation alone is evaluated")
    return Data.of(train, splits, vocabulary, args.evaluate_max_cells)


def _refuse_other(args: argparse.Namespace, about: dict[str, Any], vocabulary: Vocabulary) -> None:
    """Refuse another vocabulary, and other bins, than the model was trained with."""
    if about["vocab_sha256"] != vocabulary.sha256:
        raise InputError(f"{args.model} was trained with another vocabulary than {args.vocab}: give the one beside it")
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
