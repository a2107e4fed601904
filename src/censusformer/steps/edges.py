"""Read all chunks; write the bin edges that all cells share (`edges.parquet`; binning.method: global).

Each chunk is read twice in blocks: the quantiles are exact, and the memory does not grow with the cells.
"""

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from censusformer.errors import InputError
from censusformer.expression import edges
from censusformer.expression.normalize import normalised
from censusformer.steps._chunks import open_chunk
from censusformer.steps._genes import Genes
from censusformer.steps._options import add_normalize_arguments, whole_number
from censusformer.steps._selection import read_selection
from censusformer.steps._tables import write_table

logger = logging.getLogger("censusformer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the step's options."""
    add = parser.add_argument
    add("--chunk", type=Path, nargs="+", required=True, help="all chunks' raw counts, census/{chunk}.h5ad")
    add("--genes", type=Path, required=True, help="the kept genes, genes.parquet")
    add("--hvg", type=Path, nargs="+", required=True, help="the chunks' hvg/{chunk}.parquet, in the same order")
    add("--cells", type=Path, nargs="+", required=True, help="the chunks' cells/{chunk}.parquet, in the same order")
    add("--shared-hvg", type=Path, help="hvg_shared.parquet, if all samples share one list (hvg.scope: all)")
    add("--binning-n-bins", type=whole_number(3), default=51, help="number of bins, that of zeros included")
    add_normalize_arguments(parser)
    add("--out", type=Path, required=True, help="where the edges go, a Parquet file")


def values(args: argparse.Namespace, genes: Genes) -> Iterator[np.ndarray]:
    """Normalised values of all kept cells' selected genes, block by block."""
    log1p = args.normalize_log1p == "true"
    for path, hvg, cells in zip(args.chunk, args.hvg, args.cells, strict=True):
        with open_chunk(path) as chunk:
            gene_of = genes.of_columns(chunk)
            selection = read_selection(chunk, genes, hvg, cells, args.shared_hvg)
            for rows in chunk.rows():
                total, group = selection.total[rows.slice], selection.group[rows.slice]
                found = normalised(rows.indptr, rows.data, total, target_sum=args.normalize_target_sum, log1p=log1p)
                yield edges.chosen_values((rows.indptr, rows.indices, found), gene_of, group, selection.chosen)


def run(args: argparse.Namespace) -> None:
    """Find the quantiles of all normalised values by two passes over their bits."""
    if not len(args.chunk) == len(args.hvg) == len(args.cells):
        raise InputError("--chunk, --hvg and --cells name different numbers of files")
    genes, n_edges = Genes.read(args.genes), args.binning_n_bins - 1
    upper_counts = np.zeros(edges.LOW, np.int64)
    for block in values(args, genes):
        edges.count_upper(block, upper_counts)
    n = int(upper_counts.sum())
    if not n:
        raise InputError("no kept cell expresses a selected gene: lower filter.min_genes_per_cell")
    upper = edges.wanted_upper(upper_counts, edges.wanted_ranks(n, n_edges)[0])
    lower_counts = np.zeros((len(upper), edges.LOW), np.int64)
    for block in values(args, genes):
        edges.count_lower(block, upper, lower_counts)
    found = edges.edges_of(upper_counts, upper, lower_counts, n_edges)
    logger.info("%d edges from %.6g to %.6g over %d values", n_edges, found[0], found[-1], n)
    table = pa.table({"quantile": np.linspace(0, 1, n_edges), "edge": found})
    write_table(args.out, table.replace_schema_metadata({"n_values": str(n)}))
