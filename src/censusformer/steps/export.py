"""Writes a model for others: safetensors with `config.json`, or scGPT's folder layout; each with a card."""

import argparse
import logging
from pathlib import Path

from censusformer.errors import InputError
from censusformer.files import atomic_folder

logger = logging.getLogger("censusformer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this step."""
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="PT", help="the model (best_model.pt)")
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    add("--format", choices=["safetensors", "scgpt"], default="safetensors", help="layout (default: %(default)s)")
    add("--flash", action="store_true", help="scgpt: names of its flash-attention layers (Wqkv) for attention weights")


def run(args: argparse.Namespace) -> None:
    """Write the folder, whole or not at all."""
    from censusformer.steps import _safetensors, _scgpt  # with torch
    from censusformer.steps._card import card
    from censusformer.training import vocabulary_of
    from censusformer.training.checkpoints import load

    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise InputError(f"--out {args.out} is there and not empty: name a new folder")
    content = load(args.model, "model")
    vocabulary = vocabulary_of(content, args.model)
    with atomic_folder(args.out) as folder:
        folder.mkdir()
        if args.format == "safetensors":
            _safetensors.write(folder, content, vocabulary)
        else:
            _scgpt.write(folder, content, vocabulary, flash=args.flash)
        text = card(args.model, content, vocabulary, args.format, args.out)
        (folder / "README.md").write_text(text, encoding="utf-8")
    logger.info("%s: %s", args.out, ", ".join(sorted(path.name for path in args.out.iterdir())))
