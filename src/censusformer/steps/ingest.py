"""`ingest`: reads one's own h5ad files, writes a SOMA in the Census's layout."""

import argparse
import logging
from pathlib import Path

logger = logging.getLogger("censusformer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the step."""
    parser.add_argument("--h5ad", type=Path, nargs="+", required=True, metavar="FILE", help="files with raw counts")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the SOMA")
    parser.add_argument(
        "--census-organism",
        default="homo_sapiens",
        metavar="NAME",
        help="organism of all cells, as the Census names it (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> None:
    """Read the files, one dataset at a time, and write the census."""
    from censusformer.census.ingest import read_parts
    from censusformer.census.layout import write_census

    datasets = write_census(args.out, read_parts(args.h5ad, args.census_organism), args.census_organism)
    logger.info("%s: %d cells, datasets: %d", args.out, datasets["dataset_total_cell_count"].sum(), len(datasets))
