"""Labels the cells of an h5ad file with a fine-tuned model: writes the same file with two more columns of obs."""

import argparse
import logging
from pathlib import Path

import numpy as np
import pandas as pd

from censusformer.steps._options import add_reading_arguments, share

logger = logging.getLogger("censusformer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this step."""
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="PT", help="the fine-tuned model (finetuned.pt)")
    add("--h5ad", type=Path, required=True, metavar="FILE", help="cells with raw counts")
    add("--out", type=Path, required=True, metavar="FILE", help="the same file with labels and their confidence in obs")
    add_reading_arguments(parser)
    add("--unknown", type=share, help="confidence below which a cell is 'unknown' (default: the model's own)")
    add("--threads", type=int, help="CPU threads of PyTorch (default: 1 for models narrower than 128)")


def run(args: argparse.Namespace) -> None:
    """Label all cells of one file, a block at a time."""
    from censusformer.steps._annotator import load_finetuned  # with torch
    from censusformer.steps._copy import copied, write_columns
    from censusformer.steps._counts import open_file
    from censusformer.steps._own import UNKNOWN, OwnCells
    from censusformer.training import set_threads

    model = load_finetuned(args.model)
    set_threads(model.encoder.config.d_model, args.threads)
    own = OwnCells(open_file(args.h5ad, args.layer), model.reading, args.min_coverage)
    parts = list(model.labelled(own, args.unknown))
    labels = np.concatenate([np.empty(0, object), *(part[0] for part in parts)])
    confidence = np.concatenate([np.empty(0, np.float32), *(part[1] for part in parts)])
    columns = {model.column: pd.Categorical(labels), f"{model.column}_confidence": confidence}
    with copied(args.h5ad, args.out) as store:
        write_columns(store, columns)
    logger.info("%s: %s", args.h5ad, own.coverage)
    unknown = 100 * np.mean(labels == UNKNOWN) if len(labels) else 0
    logger.info("%s: obs.%s, %d cells, %.1f %% unknown", args.out, model.column, len(labels), unknown)
