"""Options that several steps take, and their types: what is out of range ends in a message about the option."""

import argparse
from collections.abc import Callable
from typing import Any


def whole_number(least: int) -> Callable[[str], int]:
    """Make the type of an integer option that is not below `least`."""

    def integer(text: str) -> int:
        if (number := int(text)) < least:
            raise argparse.ArgumentTypeError(f"{number} is below {least}")
        return number

    return integer


def share(text: str) -> float:
    """Over 0, at most 1."""
    if not 0 < (number := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not over 0 and at most 1")
    return number


def over_zero(text: str) -> float:
    """A finite number over 0."""
    if not 0 < (number := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not over 0")
    return number


def add_normalize_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `normalize.*`."""
    add = parser.add_argument
    add("--normalize-target-sum", type=over_zero, default=1e4, help="the total that each cell's counts are scaled to")
    add("--normalize-log1p", choices=("true", "false"), default="true", help="whether log(1 + x) follows")


def add_reading_arguments(parser: argparse.ArgumentParser, section: str | None = None) -> None:
    """Declare how one's own cells are read by a pretrained model; also by the names of a section's settings."""

    def add(name: str, **options: Any) -> None:
        names = [f"--{name}", *([f"--{section}-{name}"] if section else [])]
        parser.add_argument(*names, dest=name.replace("-", "_"), **options)

    add("layer", default="auto", metavar="NAME", help="where raw counts are: X, raw, a layer's name, or auto: the "
        "first of X, layers/counts and the like, and raw that holds them (default: %(default)s)")  # fmt: skip
    add("min-coverage", type=share, default=0.5, metavar="SHARE", help="the least share of the genes that the model "
        "reads which the file must have, as symbols or Ensembl ids (default: %(default)s)")  # fmt: skip
