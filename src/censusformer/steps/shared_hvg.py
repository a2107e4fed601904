"""Read all chunks' highly variable genes; write one list for all samples (`hvg_shared.parquet`; hvg.scope: all)."""

import argparse
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa

from censusformer.errors import InputError
from censusformer.expression.hvg import FLAVORS, shared_ranks
from censusformer.steps._options import whole_number
from censusformer.steps._tables import read_table, write_table

logger = logging.getLogger("censusformer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the step's options."""
    add = parser.add_argument
    add("--hvg", type=Path, nargs="+", required=True, help="all chunks' files of the step hvg")
    add("--hvg-n-top", type=whole_number(1), default=1200, help="genes in the shared list")
    add(
        "--hvg-flavor",
        choices=FLAVORS,
        default="seurat_v3",
        help="seurat_v3_paper ranks by number of samples first, the others by median rank first",
    )
    add("--out", type=Path, required=True, help="where the list goes, a Parquet file")


def run(args: argparse.Namespace) -> None:
    """Rank genes by their median rank over the samples that selected them, number of samples, and id."""
    table = pa.concat_tables([read_table(file, ["sample", "feature_id", "rank"]) for file in args.hvg])
    names, codes = np.unique(table["feature_id"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
    if not len(names):
        raise InputError("no sample selected any gene: lower filter.min_genes_per_cell or filter.min_counts_per_gene")
    by_samples = args.hvg_flavor == "seurat_v3_paper"
    gene, median, n_samples = shared_ranks(codes, table["rank"].to_numpy(), len(names), by_samples=by_samples)
    top = slice(args.hvg_n_top)
    logger.info("%d genes were selected by some sample; %d are shared", len(gene), len(gene[top]))
    write_table(
        args.out,
        pa.table(
            {
                "feature_id": pa.array(names[gene[top]].tolist(), pa.string()),
                "median_rank": median[top],
                "n_samples": n_samples[top].astype(np.int32),
                "rank": np.arange(len(gene[top]), dtype=np.int32),
            }
        ),
    )
