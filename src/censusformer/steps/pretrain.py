"""Pretrain the encoder on masked expression.

Reads `shards.json`, the shards that it lists and `vocab.json`; writes `best_model.pt`, `last.ckpt`, `metrics.csv`,
`args.json`, `vocab.json` and TensorBoard's files. Checkpoints lie in the work folder while it runs.
"""

import argparse
from pathlib import Path

from censusformer.digest import code_digest
from censusformer.tokens.vocabulary import Vocabulary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add files and settings."""
    add = parser.add_argument
    add("--shards", type=Path, required=True, metavar="JSON", help="list of shards (shards.json)")
    add("--vocab", type=Path, required=True, metavar="JSON", help="vocabulary (vocab.json)")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    add("--work", type=Path, metavar="DIR", help="folder for checkpoints while it runs, which a restart goes on from: "
        "each configuration has a folder of its own in it (default: OUT/work)")  # fmt: skip
    _add_mask_and_model(parser.add_argument_group("mask and model"))
    _add_train(parser.add_argument_group("training"))
    _add_execution(parser.add_argument_group("execution: how it runs, never what comes out"))


def _add_mask_and_model(group) -> None:
    group.add_argument("--mask-ratios", type=float, nargs="+", default=[0.25, 0.5, 0.75], metavar="R",
                       help="shares of a cell's genes to mask (default: 0.25 0.5 0.75)")  # fmt: skip
    group.add_argument("--mask-draw", choices=["cell", "run"], default="cell",
                       help="draw a ratio for each cell and epoch, or one for the run (default: cell)")  # fmt: skip
    for name, kind, default, text in (
        ("n-layers", int, 2, "Transformer layers"),
        ("d-model", int, 32, "width, a multiple of the heads"),
        ("n-heads", int, 4, "attention heads"),
        ("d-ff", int, 64, "width of the feed-forward blocks"),
        ("dropout", float, 0.1, "dropout probability, not on attention weights"),
    ):
        group.add_argument(f"--model-{name}", type=kind, default=default, help=f"{text} (default: {default})")


def _add_train(group) -> None:
    for name, kind, default, text in (
        ("epochs", int, 6, "passes over the training cells"),
        ("batch-size", int, 32, "cells of a step, over all devices together"),
        ("lr", float, 2e-3, "highest learning rate"),
        ("seed", int, 0, "of initial weights, order of cells, masks and dropout"),
        ("recipe", str, "fast", "fast or reference"),
        ("max-steps", int, None, "stop after this many steps in all"),
        ("weight-decay", float, None, "decoupled weight decay of matrices (None: the recipe's)"),
        ("early-stopping", int, None, "stop after this many epochs without a lower validation loss"),
        ("init-from", str, None, "best_model.pt of another run to start from"),
    ):
        group.add_argument(f"--train-{name}", type=kind, default=default, help=f"{text} (default: {default})")


def _add_execution(group) -> None:
    for name, kind, default, text in (
        ("devices", int, 1, "devices of a node"),
        ("nodes", int, 1, "nodes"),
        ("num-workers", int, 1, "0: prepare batches between steps; else in a background thread"),
        ("precision", str, "auto", "auto, 32, tf32, bf16 or 16"),
        ("compile", _boolean, False, "true: run the model through torch.compile"),
        ("attention", str, "auto", "auto, cpu, varlen or padded"),
        ("memory", float, 8.0, "GB for decoded training cells; a window moves over the shards of larger data"),
        ("max-tokens", int, None, "tokens that a device takes at once; larger steps are done in parts"),
        ("log-every", int, 50, "steps between two rows of the training loss"),
        ("checkpoint-minutes", float, 10.0, "minutes between two checkpoints inside an epoch"),
    ):
        group.add_argument(f"--execution-{name}", type=kind, default=default, help=f"{text} (default: {default})")
    group.add_argument(
        "--threads",
        type=int,
        help="CPU threads of PyTorch (default: 1 for models narrower than 128, else its own choice)",
    )


def _boolean(text: str) -> bool:
    if text not in {"true", "false"}:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text == "true"


def run(args: argparse.Namespace) -> None:
    """Pretrain, or go on with it, and publish the results."""
    from censusformer.training import session  # torch takes seconds to import

    settings = session.settings_of(vars(args))
    vocabulary = Vocabulary.read(args.vocab)
    session.pretrain(settings, args.shards, vocabulary, out=args.out, work=args.work or args.out / "work",
                     threads=args.threads, code=code_digest(__name__))  # fmt: skip
