"""Options that several steps take."""

import argparse


def add_normalize_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `normalize.*`."""
    add = parser.add_argument
    add("--normalize-target-sum", type=float, default=1e4, help="the total that each cell's counts are scaled to")
    add("--normalize-log1p", choices=("true", "false"), default="true", help="whether log(1 + x) follows")
