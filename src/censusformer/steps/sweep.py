"""Compare the runs of a sweep: one page with a table, curves, differences with intervals, and fitted scaling curves.

Reads `config.yaml`, `args.json`, `metrics.csv` and `evaluation/by_sample.parquet` of each run's folder; writes
`results/sweep-{name}.html`.
"""

import argparse
import logging
from pathlib import Path

from censusformer.files import atomic

logger = logging.getLogger("censusformer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the step's options."""
    add = parser.add_argument
    add("--runs", type=Path, nargs="+", required=True, metavar="DIR", help="the folders of the runs")
    add("--sweep-name", default="sweep", help="what the sweep is called")
    add("--sweep-criterion", default="valid.gep.reducible_removed", help="split.head.metric that the best is best by")
    add("--sweep-embeddings", action="store_true", help="show how well embeddings tell cell types")
    add("--unfinished", action="store_true", help="take what there is: say which runs failed, and why")
    add("--out", type=Path, required=True, help="the HTML file to write")


def run(args: argparse.Namespace) -> None:
    """Write the page."""
    from censusformer.report.sweep import headline
    from censusformer.report.sweep_page import render
    from censusformer.steps._sweep import read_sweep

    sweep = read_sweep(args)
    page = render(sweep)
    with atomic(args.out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    logger.info("%s: %d of %d runs, %.1f MB. %s", args.out, len(sweep.finished), len(sweep.runs), len(page) / 1e6,
                headline(sweep))  # fmt: skip
