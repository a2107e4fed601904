"""Read a chunk's raw counts; write each gene's total count and number of cells (`census/{chunk}.counts.parquet`)."""

import argparse
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa

from censusformer.expression.moments import add_gene_counts
from censusformer.steps._chunks import open_chunk
from censusformer.steps._tables import write_table

logger = logging.getLogger("censusformer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the step's options."""
    parser.add_argument("--chunk", type=Path, required=True, help="the chunk's raw counts, census/{chunk}.h5ad")
    parser.add_argument("--out", type=Path, required=True, help="where each gene's counts go, a Parquet file")


def run(args: argparse.Namespace) -> None:
    """Count each gene in one chunk."""
    with open_chunk(args.chunk) as chunk:
        total, n_cells = np.zeros((2, chunk.n_genes), np.int64)
        for rows in chunk.rows():
            add_gene_counts(rows.indices, rows.data, total, n_cells)
        table = pa.table(
            {
                "feature_id": pa.array(chunk.feature_id, pa.string()),
                "feature_name": pa.array(chunk.feature_name, pa.string()),
                "total": total,
                "n_cells": n_cells,
            }
        )
        logger.info("%d cells, %d of %d genes expressed", chunk.n_cells, np.count_nonzero(total), chunk.n_genes)
    write_table(args.out, table)
