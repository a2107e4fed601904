"""Read all chunks' counts; write the genes that reach the threshold over the entire matrix (`genes.parquet`).

Their order, by id, is the vocabulary. `gene_list.parquet` holds ids and names alone, which is what later steps read:
the same where more cells change the totals and not the choice.
"""

import argparse
import logging
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from censusformer.errors import InputError
from censusformer.steps._options import whole_number
from censusformer.steps._tables import read_table, write_table

logger = logging.getLogger("censusformer")
COLUMNS = ("feature_id", "feature_name", "total", "n_cells")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the step's options."""
    parser.add_argument("--counts", type=Path, nargs="+", required=True, help="all chunks' files of the step count")
    parser.add_argument(
        "--filter-min-counts-per-gene",
        type=whole_number(1),
        default=3,
        help="least total count of a gene over all chunks",
    )
    parser.add_argument("--out", type=Path, required=True, help="where the kept genes go, a Parquet file")
    parser.add_argument("--out-list", type=Path, help="where their ids and names alone go, a Parquet file")


def add_up(counts: Iterable[pa.Table]) -> pa.Table:
    """Add the chunks' totals of each gene, sorted by id; of several names for one gene the first in the alphabet.

    One chunk after the other: memory does not grow with their number.
    """
    sums = ("feature_id", "feature_name_min", "total_sum", "n_cells_sum")
    so_far: list[pa.Table] = []
    for table in counts:
        both = pa.concat_tables([*so_far, table]).group_by("feature_id")
        added = both.aggregate([("feature_name", "min"), ("total", "sum"), ("n_cells", "sum")])
        so_far = [added.select(sums).rename_columns(COLUMNS)]
    return so_far[0].sort_by("feature_id")


def run(args: argparse.Namespace) -> None:
    """Keep the genes whose total over all chunks reaches `filter.min_counts_per_gene`."""
    table = add_up(read_table(file, COLUMNS) for file in args.counts)
    least = args.filter_min_counts_per_gene
    kept = table.filter(pc.greater_equal(table["total"], least))
    if not len(kept):
        most = pc.max(table["total"]).as_py()
        raise InputError(f"no gene has {least} counts (the most is {most or 0}): lower filter.min_counts_per_gene")
    logger.info("%d of %d genes have at least %d counts over %d chunks", len(kept), len(table), least, len(args.counts))
    measured = {b"n_measured": str(len(table)).encode()}  # genes before the filter: the report says so
    kept = kept.combine_chunks()
    write_table(args.out, kept.replace_schema_metadata(measured))
    if args.out_list is not None:
        write_table(args.out_list, kept.select(["feature_id", "feature_name"]))
