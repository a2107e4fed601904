"""Reads the kept genes and all chunks' highly variable genes, writes the vocabulary."""

import argparse
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from censusformer.errors import InputError
from censusformer.steps._tables import read_table
from censusformer.tokens.vocabulary import Vocabulary

logger = logging.getLogger("censusformer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this step."""
    parser.add_argument("--genes", type=Path, required=True, help="the kept genes, in the order of the vocabulary")
    parser.add_argument("--hvg", type=Path, nargs="+", required=True, help="highly variable genes of each chunk")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")


def run(args: argparse.Namespace) -> None:
    """Write the vocabulary: the kept genes, and how many samples selected each."""
    genes = read_table(args.genes, ["feature_id", "feature_name"])
    ids = genes["feature_id"].to_pylist()
    counts = np.zeros(len(ids), np.int64)
    for path in args.hvg:
        counts += _selections(path, pa.array(ids), args.genes)
    vocabulary = Vocabulary(tuple(ids), tuple(genes["feature_name"].to_pylist()), tuple(counts.tolist()))
    vocabulary.write(args.out)
    selected = np.count_nonzero(counts)
    logger.info("%d genes, %d of them selected by a sample or more", vocabulary.n_genes, selected)


def _selections(path: Path, ids: pa.Array, genes: Path) -> np.ndarray:
    """Count the samples of one chunk that selected each gene, int64 (n_genes,)."""
    found = pc.index_in(read_table(path, ["feature_id"])["feature_id"].cast(pa.string()), ids)
    if found.null_count:
        raise InputError(f"{path} holds genes that {genes} does not: delete {path} and run snakemake again")
    return np.bincount(found.to_numpy(), minlength=len(ids))
