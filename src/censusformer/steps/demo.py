"""`demo`: reads the real cells that celltypist and scanpy ship, writes the embedded census as a SOMA."""

import argparse
import logging
from pathlib import Path

logger = logging.getLogger("censusformer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the step."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the SOMA")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other cells (default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    """Draw the demo's cells and write its census."""
    from censusformer.census.demo import demo_parts
    from censusformer.census.layout import write_census
    from censusformer.census.real_cells import read_real_cells

    real = read_real_cells()
    logger.info("%d real cells x %d genes with an Ensembl id", *real.counts.shape)
    note = (
        f"This is the demo: its cells are drawn anew from {real.counts.shape[0]} real ones, its donors are "
        "invented, and validation cells are near copies of training cells. It shows how the run works; its numbers "
        "say nothing about biology."
    )
    datasets = write_census(args.out, demo_parts(real, args.seed), note=note)
    logger.info("%s: %d cells, datasets: %d", args.out, datasets["dataset_total_cell_count"].sum(), len(datasets))
