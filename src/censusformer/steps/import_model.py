"""Makes a `best_model.pt` of a folder with a model as safetensors or in scGPT's layout, such as its published ones."""

import argparse
import logging
from pathlib import Path

from censusformer.errors import InputError

logger = logging.getLogger("censusformer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this step."""
    add = parser.add_argument
    add("--from", dest="folder", type=Path, required=True, metavar="DIR", help="folder with config.json or args.json")
    add("--out", type=Path, required=True, metavar="PT", help="model to write, for train.init_from, embed and others")


def run(args: argparse.Namespace) -> None:
    """Read either layout, by the files that are there."""
    from censusformer.steps import _safetensors, _scgpt  # with torch
    from censusformer.training.checkpoints import save

    if (args.folder / _safetensors.CONFIG).is_file():
        content, said = _safetensors.read(args.folder), []
    elif (args.folder / _scgpt.ARGS).is_file():
        content, said = _scgpt.read(args.folder)
    else:
        raise InputError(f"--from {args.folder}: neither config.json (safetensors) nor args.json (scGPT) is there")
    for line in said:
        logger.info("%s: %s", args.folder, line)
    save(args.out, "model", content)
    shape = content["model"]
    logger.info("%s: %d genes, %d layers of %d", args.out, shape["n_genes"], shape["n_layers"], shape["d_model"])
