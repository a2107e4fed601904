"""The leakage check of the step `evaluate`: reads labels of samples and cells, refuses what stands on both sides."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from censusformer.errors import InputError
from censusformer.evaluation import leakage
from censusformer.files import atomic
from censusformer.steps._cells import rows_of
from censusformer.steps._tables import read_table
from censusformer.tokens.cells import Cells
from censusformer.tokens.vocabulary import Vocabulary

logger = logging.getLogger("censusformer")


def find_leakage(
    splits: Mapping[str, Cells], vocabulary: Vocabulary, samples: Path, labels: Sequence[Path]
) -> dict[str, Any]:
    """Compare persons, samples and cells of all splits.

    Parameters
    ----------
    splits
        The cells of `train`, `valid` and `test`.
    samples
        `samples.parquet`; without a column `person` persons are not compared.
    labels
        The chunks' `cells/{chunk}.parquet`, whose `counts_hash` tells cells with the same raw counts; none: not known.
    """
    table = read_table(samples, ("sample", "status"), optional=("person",))
    status = table["status"].to_pylist()
    people = table["person"].to_pylist() if "person" in table.column_names else None
    trained, tested = (_samples(splits, names) for names in (("train", "valid"), ("test",)))
    counts = _counts(labels)
    sides = {name: _side(cells, vocabulary.gene_words, counts) for name, cells in splits.items() if len(cells)}
    return {
        "persons": leakage.persons(status, people),
        "samples": leakage.names(trained, tested),
        "cells": leakage.cells(sides),
    }


def refuse_leakage(found: Mapping[str, Any], source: Path) -> None:
    """Stop where a person or a cell stands on both sides; warn of copies under other names."""
    if reason := leakage.refusal(found):
        raise InputError(f"{source}: {reason}. Nothing can be said about such a test: run `select` and `split` again")
    for sentence in leakage.copies(found):
        logger.warning("%s", sentence)


def write_leakage(path: Path, found: Mapping[str, Any]) -> None:
    """Write `leakage.json`."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")


def _samples(splits: Mapping[str, Cells], names: Sequence[str]) -> set[str]:
    return {sample for name in names if name in splits for sample in splits[name].sample.tidy().names}


def _counts(labels: Sequence[Path]) -> tuple[np.ndarray, np.ndarray] | None:
    """Keys and hashes of all cells' raw counts."""
    if not labels:
        return None
    tables = [read_table(path, ["cell", "counts_hash"]) for path in labels]
    key, hashed = (np.concatenate([table[name].to_numpy() for table in tables]) for name in ("cell", "counts_hash"))
    return key, hashed


def _side(cells: Cells, words: np.ndarray, counts: tuple[np.ndarray, np.ndarray] | None) -> leakage.Side:
    hashed = None
    if counts is not None:
        rows, found = rows_of(counts[0], cells.cell)
        if not found.all():
            raise InputError(f"--cells lack {np.count_nonzero(~found):,} cells of the shards: give those of all chunks")
        hashed = counts[1][rows]
    return leakage.Side(cells.cell, leakage.hash_sets(cells.offsets, cells.genes, words), cells.lengths, hashed)
