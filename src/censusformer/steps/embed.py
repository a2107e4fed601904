"""Embeds the cells of an h5ad file with a pretrained model: writes the same file with `obsm["X_censusformer"]`."""

import argparse
import logging
import time
from pathlib import Path

from censusformer.errors import InputError
from censusformer.steps._options import add_reading_arguments

logger = logging.getLogger("censusformer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this step."""
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="PT", help="the model (best_model.pt)")
    add("--h5ad", type=Path, required=True, metavar="FILE", help="cells with raw counts")
    add("--out", type=Path, required=True, metavar="FILE", help="the same file with the embeddings in obsm")
    add("--key", default="X_censusformer", metavar="NAME", help="their name in obsm (default: %(default)s)")
    add_reading_arguments(parser)
    add("--pooling", choices=["cls", "mean"], default="cls", help="output at <cls>, or mean of all (default: cls)")
    add("--threads", type=int, help="CPU threads of PyTorch (default: 1 for models narrower than 128)")


def run(args: argparse.Namespace) -> None:
    """Embed all cells of one file, a block at a time."""
    from censusformer.steps._copy import copied, write_record, write_vectors
    from censusformer.steps._counts import open_file  # with anndata, which takes seconds to import
    from censusformer.steps._model import load
    from censusformer.steps._own import OwnCells
    from censusformer.training import set_threads

    if "/" in args.key or not args.key:
        raise InputError(f"--key {args.key!r}: a name without '/'")
    model = load(args.model)
    set_threads(model.module.config.d_model, args.threads)
    own = OwnCells(open_file(args.h5ad, args.layer), model.reading, args.min_coverage)
    logger.info("%s: %d cells, counts from %s", args.h5ad, len(own), own.source.place)
    started = time.monotonic()
    shape = len(own), model.module.config.d_model
    with copied(args.h5ad, args.out) as store:
        write_vectors(store, args.key, shape, model.embedded(own, args.pooling))
        write_record(store, args.key, model.record(own, args.pooling))
    seconds = time.monotonic() - started
    logger.info("%s: %s", args.h5ad, own.coverage)
    logger.info("%s: obsm/%s, %d cells by %d, %.0f cells/s", args.out, args.key, *shape, len(own) / max(seconds, 1e-9))
