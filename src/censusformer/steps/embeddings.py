"""Measures a model's embeddings of cells and genes beside baselines.

Reads `best_model.pt`, `shards.json` and its shards, `vocab.json`, `samples.parquet` and the chunks' raw counts; writes
`embeddings.parquet` (scores), `umap.parquet`, `genes.parquet`, `markers.parquet`, `frequency.parquet` and
`embeddings.json` (what was compared, and what could not be).
"""

import argparse
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from censusformer.errors import InputError
from censusformer.evaluation.embedding_scores import Known, score_all
from censusformer.evaluation.plane import umap
from censusformer.files import atomic
from censusformer.hashing import draw, to_hex, word
from censusformer.steps._embeddings import Chosen, choose, of_counts, of_model, read_counts, untrained
from censusformer.steps._gene_vectors import Genes, measure_genes
from censusformer.steps._options import whole_number
from censusformer.steps._tables import write_table
from censusformer.tokens.shards import read_manifest, read_split
from censusformer.tokens.vocabulary import Vocabulary

logger = logging.getLogger("censusformer")
TABLES = ("embeddings", "umap", "genes", "markers", "frequency")
MIN_CELLS = 100  # training cells that say anything
PICTURED, MIN_PICTURED = ("model_cls", "pca"), 20  # representations that are drawn, cells that a picture needs
_SHOWN = word("censusformer embeddings: cells that are drawn")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this step."""
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="PT", help="the model (best_model.pt)")
    add("--shards", type=Path, required=True, metavar="JSON", help="list of shards (shards.json)")
    add("--vocab", type=Path, required=True, metavar="JSON", help="vocabulary (vocab.json)")
    add("--samples", type=Path, required=True, metavar="PARQUET", help="the samples: persons and donors")
    add("--chunk", type=Path, nargs="+", required=True, metavar="H5AD", help="raw counts of all chunks")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the tables")
    add("--embeddings-cells", type=whole_number(0), default=10000, help="training, and test cells, at most; 0: none")
    add("--embeddings-umap-cells", type=whole_number(0), default=5000, help="cells of the pictures; 0: none")
    add("--embeddings-scvi", choices=("true", "false"), default="false", help="scVI as a baseline, too")
    group = parser.add_argument_group("execution: how it runs, never what comes out")
    unused = "devices", "nodes", "num-workers", "precision", "compile", "attention", "memory", "log-every"
    for name in (*unused, "max-tokens", "checkpoint-minutes"):
        group.add_argument(f"--execution-{name}", help="taken for uniformity; this step runs on one device in 32 bits")
    group.add_argument("--threads", type=int, help="CPU threads of PyTorch (default: PyTorch's own choice)")


def run(args: argparse.Namespace) -> None:
    """Represent cells and genes, score them, write the tables."""
    if not args.embeddings_cells:
        _write_tables(args.out, dict.fromkeys(TABLES, pd.DataFrame()), {"measured": False})
        return
    if args.embeddings_cells < MIN_CELLS:
        raise InputError(f"embeddings.cells is {args.embeddings_cells}: at least {MIN_CELLS}, or 0 to measure nothing")
    _measure(args)


def _measure(args: argparse.Namespace) -> None:
    from censusformer.training import load_model, set_threads

    vocabulary = Vocabulary.read(args.vocab)
    model, about = load_model(args.model, _device())
    set_threads(model.config.d_model, args.threads)
    _refuse_other(args, about, vocabulary)
    train, valid, test = (read_split(args.shards, name, vocabulary) for name in ("train", "valid", "test"))
    if not len(train):
        raise InputError(f"{args.shards} lists no training cells")
    chosen = choose(train, test, args.samples, args.embeddings_cells)
    fresh = untrained(model, about["args"]["train"]["seed"])
    found = _represent(args, model, fresh, chosen, vocabulary)
    frame, told = score_all(found, _known(chosen))
    held_out = chosen.cells.take(np.flatnonzero(chosen.test)) if chosen.test.any() else valid
    genes = measure_genes(model, fresh, train, held_out, vocabulary)
    told = {
        "measured": True,
        "cells": _counts(chosen),
        "tasks": told,
        "genes_scored_on": "test" if chosen.test.any() else "valid",
    }
    _write(args.out, frame, _pictures(found, chosen, args.embeddings_umap_cells), genes, told)


def _device() -> Any:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _refuse_other(args: argparse.Namespace, about: dict[str, Any], vocabulary: Vocabulary) -> None:
    if about["vocab_sha256"] != vocabulary.sha256:
        raise InputError(f"{args.model} was trained with another vocabulary than {args.vocab}: give the one beside it")
    n_bins = read_manifest(args.shards)["n_bins"]
    if n_bins != about["n_bins"]:
        raise InputError(f"{args.model} was trained on {about['n_bins']} bins, {args.shards} holds {n_bins}")


def _represent(args: argparse.Namespace, model, fresh, chosen: Chosen, vocabulary: Vocabulary) -> dict[str, np.ndarray]:
    """Every representation of the chosen cells, by name."""
    counts = read_counts(args.chunk, vocabulary, chosen.cells.cell)
    found = dict(of_model(model, "model", chosen.cells))
    found |= of_model(fresh, "untrained", chosen.cells)
    n_samples = np.array(vocabulary.n_samples)
    return found | dict(of_counts(chosen, counts, n_samples, scvi=args.embeddings_scvi == "true"))


def _known(chosen: Chosen) -> Known:
    cells = chosen.cells
    label = np.where(chosen.labelled, cells.cell_type.codes, -1)
    person = np.unique(chosen.person.astype(str), return_inverse=True)[1]
    names = cells.cell_type.names
    return Known(cells.cell, chosen.test, label, person, cells.sample.codes, cells.dataset_id.codes, names)


def _counts(chosen: Chosen) -> dict[str, int]:
    """What was embedded, and how many cells lack a type."""
    sides = {"train": ~chosen.test, "test": chosen.test}
    counts = {name: int(side.sum()) for name, side in sides.items()}
    return counts | {f"{name}_labelled": int((side & chosen.labelled).sum()) for name, side in sides.items()}


def _pictures(found: dict[str, np.ndarray], chosen: Chosen, most: int) -> pd.DataFrame:
    """UMAP of at most `most` cells for the representations of `PICTURED`."""
    rows = np.sort(np.argsort(draw(_SHOWN, chosen.cells.cell), kind="stable")[:most])
    cells = chosen.cells.take(rows)
    label = np.where(chosen.labelled, chosen.cells.cell_type.labels(), "")[rows]
    about = {"cell": to_hex(cells.cell), "cell_type": label, "donor": chosen.donor[rows]}
    about |= {"dataset": cells.dataset_id.labels(), "test": chosen.test[rows]}
    parts = [pd.DataFrame({"representation": "", "x": 0.0, "y": 0.0, **about}).iloc[:0]]  # columns without rows
    if len(rows) > MIN_PICTURED:
        for name in PICTURED:
            x, y = umap(found[name][rows]).T
            parts.append(pd.DataFrame({"representation": name, "x": x, "y": y, **about}))
    return pd.concat(parts[len(parts) > 1 :], ignore_index=True)


def _write(out: Path, frame: pd.DataFrame, pictures: pd.DataFrame, genes: Genes, told: dict[str, Any]) -> None:
    tables = frame, pictures, genes.genes, genes.markers, genes.frequency
    _write_tables(out, dict(zip(TABLES, tables, strict=True)), told)
    shown = frame[frame["metric"].isin(("knn_macro_f1", "linear_accuracy"))]
    for row in shown.itertuples():
        logger.info("%s %s %s: %.3f", row.task, row.representation, row.metric, row.value)


def _write_tables(out: Path, tables: dict[str, pd.DataFrame], told: dict[str, Any]) -> None:
    for name, table in tables.items():
        write_table(out / f"{name}.parquet", pa.Table.from_pandas(table, preserve_index=False))
    with atomic(out / "embeddings.json") as temporary:
        temporary.write_text(json.dumps(told, indent=1) + "\n")
