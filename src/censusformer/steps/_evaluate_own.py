"""The step `evaluate` on one's own h5ad file: its cells as the model reads them, baselines, and errors by label.

Baselines are fitted on the training shards where these are given, as in a run; else on half of the file's own donors,
while everything is measured on the other half: they then know a data set that the model never saw.
"""

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from censusformer.errors import InputError
from censusformer.evaluation import leakage
from censusformer.evaluation.reconstruction import HEADS, Labels, Measured
from censusformer.evaluation.scores import COLUMNS, METRICS, tie_floor
from censusformer.hashing import draw, uniform, word, words
from censusformer.steps._counts import Source, open_file
from censusformer.steps._evaluate import Data, Predict, measure_all, told_of, write_evaluation, write_json
from censusformer.steps._evaluate_labels import read_counts, score_labels
from censusformer.steps._leakage import refuse_leakage
from censusformer.steps._own import OwnCells, Reading
from censusformer.steps._tables import write_table
from censusformer.tokens.cells import Categories, Cells
from censusformer.tokens.shards import file_sha256, read_split
from censusformer.tokens.vocabulary import Vocabulary

logger = logging.getLogger("censusformer")
LEAST_TOKENS = 10  # of a cell: shorter ones say little, and are left out of shards as well
_HALF = word("censusformer evaluate: donors that baselines are fitted on")


@dataclass(frozen=True)
class Own:
    """One's own cells, and what is known of them.

    Parameters
    ----------
    cells
        Those with enough tokens; `cell_type` holds the labels, `sample` data set and donor.
    vocabulary
        The model's.
    coverage
        What the model sees of the file, in words.
    kept
        bool: which of the file's cells these are.
    source
        The file, see `_counts.Source`.
    """

    cells: Cells
    vocabulary: Vocabulary
    coverage: str
    kept: np.ndarray
    source: Source


def evaluate_own(args: argparse.Namespace, predict: Predict, about: dict[str, Any]) -> None:
    """Measure a model on one's own file and write the tables."""
    own = read_own(args, about)
    data, said = own_data(args, own)
    cells = data.splits["test"]
    pairs, seen = Pairs.of(cells), data.train.dataset_id.names if args.shards else ()
    labels = pairs.labels(cells, seen)
    ratios, components = args.evaluate_ratios, args.evaluate_ridge_components
    measured, chosen = measure_all(data, {"test": labels}, predict, ratios, components)
    by_label = label_table(measured["test"], pairs, cells)
    write_table(args.out / "by_label.parquet", pa.Table.from_pandas(by_label, preserve_index=False))
    added_up = {"test": [pairs.added_up(part, by_label=False) for part in measured["test"]]}
    samples = {"test": Labels(cells.sample.codes, labels.seen[:: pairs.n_labels], cells.tie_var)}
    write_evaluation(args, data, samples, added_up, {"model": told_of(about), "chosen": chosen, **said})
    logger.info("by label:\n%s", by_label.round(3).to_string(index=False))
    if args.embeddings:
        _tell_labels(args, own, about["args"]["train"]["seed"])


def _tell_labels(args: argparse.Namespace, own: Own, seed: int) -> None:
    from censusformer.training import load_model

    encoder, _ = load_model(args.model)
    counts = read_counts(own.source, own.vocabulary)[np.flatnonzero(own.kept)]
    scores, tasks = score_labels(encoder, seed, own.cells, counts, own.vocabulary)
    write_table(args.out / "embeddings.parquet", pa.Table.from_pandas(scores, preserve_index=False))
    write_json(args.out / "embeddings.json", {"tasks": tasks})
    told = scores[scores["task"] == "in_turn"].pivot_table(index="representation", columns="metric", values="value")
    logger.info("%s by embeddings, each donor held out in turn:\n%s", args.label_key, told.round(3).to_string())


def read_own(args: argparse.Namespace, about: Mapping[str, Any]) -> Own:
    """Read the file as `embed` does.

    Raises
    ------
    InputError
        A column is missing, the file holds no raw counts or too few of the model's genes, or no cell is left.
    """
    source = open_file(args.h5ad, args.layer)
    named = {args.donor_key: "donor_id", args.label_key: "cell_type"}
    if missing := [key for key in named if key not in source.obs]:
        some = ", ".join(map(str, source.obs.columns[:12]))
        raise InputError(f"{args.h5ad}: obs has no column {missing[0]!r} (it has: {some}); name yours with --donor-key "
                         "and --label-key")  # fmt: skip
    columns = {new: source.obs[old] for old, new in named.items()}
    reading = Reading.of(about, args.model)
    source = replace(source, obs=source.obs.assign(**columns))
    own = OwnCells(source, reading, args.min_coverage)
    cells = own.read()
    kept = cells.lengths >= LEAST_TOKENS
    if not kept.any():
        raise InputError(f"{args.h5ad}: no cell has {LEAST_TOKENS} of the genes that the model reads")
    logger.info("%s: %d of %d cells have enough tokens; %s", args.h5ad, kept.sum(), len(kept), own.coverage)
    return Own(cells.take(kept), reading.vocabulary, str(own.coverage), kept, source)


def own_data(args: argparse.Namespace, own: Own) -> tuple[Data, dict[str, Any]]:
    """What is measured and what baselines are fitted on; and the same in words, with the leakage check."""
    cells = own.cells
    if args.shards is None:
        fitted = halves(cells.sample)
        train, test = cells.take(fitted), cells.take(~fitted)
        said = f"{_n_samples(train)} of the file's {_n_samples(cells)} donors, {len(train):,} cells"
        told: dict[str, Any] = {"fitted_on": said}
    else:
        train, test = read_split(args.shards, "train", own.vocabulary), cells
        if not len(train):
            raise InputError(f"{args.shards} lists no training cells")
        sides = {"train": _side(train, own), "test": _side(test, own)}
        told = {"fitted_on": f"the training cells of {args.shards}, {len(train):,}", "cells": leakage.cells(sides)}
        refuse_leakage(told, args.h5ad)
    logger.info("baselines are fitted on %s; measured on %d cells", told["fitted_on"], len(test))
    told |= {"h5ad": str(args.h5ad), "h5ad_sha256": file_sha256(args.h5ad), "coverage": own.coverage}
    return Data.of(train, {"test": test}, own.vocabulary, args.evaluate_max_cells), told | {
        "dropped": int((~own.kept).sum())
    }


def halves(sample: Categories) -> np.ndarray:
    """Which cells baselines are fitted on, bool (n,): those of half of the donors, by hash of their names.

    Raises
    ------
    InputError
        There is one donor alone.
    """
    names = sample.tidy().names
    if len(names) < 2:
        raise InputError(
            f"{names[0]!r} is the file's only donor (--donor-key): baselines need others; give --shards to fit them on "
            "the cells that the model was trained on"
        )
    order = np.argsort(uniform(draw(_HALF, words(names))), kind="stable")
    chosen = {names[i] for i in order[: len(names) // 2]}
    return np.isin(sample.codes, [i for i, name in enumerate(sample.names) if name in chosen])


def _n_samples(cells: Cells) -> int:
    return len(np.unique(cells.sample.codes))


def _side(cells: Cells, own: Own) -> leakage.Side:
    genes = leakage.hash_sets(cells.offsets, cells.genes, own.vocabulary.gene_words)
    return leakage.Side(cells.cell, genes, cells.lengths)


@dataclass(frozen=True)
class Pairs:
    """Cells by sample and label at once, so that one measurement can be added up by either.

    Parameters
    ----------
    code
        int64 (n,): sample times the number of labels, plus label.
    n_samples, n_labels
        Numbers of names.
    """

    code: np.ndarray
    n_samples: int
    n_labels: int

    @classmethod
    def of(cls, cells: Cells) -> "Pairs":
        """Number the pairs of some cells."""
        n = len(cells.cell_type.names)
        return cls(cells.sample.codes.astype(np.int64) * n + cells.cell_type.codes, len(cells.sample.names), n)

    def labels(self, cells: Cells, seen_datasets: Sequence[str]) -> Labels:
        """What `measure_all` asks for, pairs in the place of samples."""
        dataset = np.zeros(self.n_samples, np.int64)
        dataset[cells.sample.codes] = cells.dataset_id.codes
        seen = np.isin(np.array(cells.dataset_id.names, dtype=object)[dataset].astype(str), list(seen_datasets))
        return Labels(self.code, np.repeat(seen, self.n_labels), cells.tie_var)

    def added_up(self, measured: Measured, *, by_label: bool) -> Measured:
        """Add the sums of a measurement up by sample, or by label."""
        shape, axis = (self.n_samples, self.n_labels, -1), 0 if by_label else 1
        sums = {key: array.reshape(shape).sum(axis=axis) for key, array in measured.sums.items()}
        return Measured(measured.mask_ratio, sums, measured.by_gene)


def label_table(measured: Sequence[Measured], pairs: Pairs, cells: Cells) -> pd.DataFrame:
    """Errors by label over all mask ratios, the label with most cells first.

    Returns
    -------
    label, n_cells, n (hidden values), the error of the model's heads (`gep`, `gepc`) and of each baseline, `tie_floor`,
    and what each head removes of the reducible error (`gep_removed`, `gepc_removed`).
    """
    parts = [pairs.added_up(part, by_label=True).sums for part in measured]
    total = {key: np.sum([part[key] for part in parts], axis=0) for key in parts[0]}
    n_cells = np.bincount(cells.cell_type.codes, minlength=pairs.n_labels)
    mse = {key[0] or key[1]: METRICS["mse"](sums) for key, sums in total.items()}
    removed = {f"{head}_removed": METRICS["reducible_removed"](total[head, "model"]) for head in HEADS}
    any_sums = total[None, "gene_mean"]
    frame = pd.DataFrame(
        {"label": cells.cell_type.names, "n_cells": n_cells, "n": any_sums[:, COLUMNS.index("n")].astype(np.int64)}
        | mse | {"tie_floor": tie_floor(any_sums)} | removed
    )  # fmt: skip
    return frame[frame["n_cells"] > 0].sort_values(["n_cells", "label"], ascending=[False, True], ignore_index=True)
