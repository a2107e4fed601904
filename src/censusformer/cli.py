"""`censusformer STEP …`: one subcommand a step; a step's module is imported only when it runs."""

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from censusformer.errors import InputError

__version__ = "0.1.0"  # here and not in the package, whose source counts as part of every step

STEPS = {
    "demo": "build the embedded demo census from real cells that packages ship",
    "ingest": "turn your own h5ad files into a census",
    "select": "choose whole samples at random and list their cells by chunk",
    "download": "fetch the raw counts of one chunk",
    "count": "count each gene in one chunk",
    "genes": "keep the genes that reach the threshold over all chunks",
    "hvg": "drop poor cells and rank the highly variable genes of each sample of a chunk",
    "shared_hvg": "one list of highly variable genes for all samples (hvg.scope: all)",
    "edges": "bin edges for the entire matrix (binning.method: global)",
    "binning": "normalise and bin the expression of a chunk's cells",
    "split": "assign a chunk's cells to training, validation and test",
    "tokenize": "write a chunk's cells as token shards",
    "vocab": "write the vocabulary",
    "manifest": "list all shards with their checksums",
    "pretrain": "pretrain the encoder on masked expression",
    "evaluate": "measure a model beside its baselines",
    "embeddings": "measure a model's embeddings of cells and genes beside baselines",
    "finetune": "train a task's head on labelled cells and measure it on persons held out",
    "integrate": "take the batch out of the embeddings of an h5ad file",
    "report": "write the page about a run",
    "sweep": "write the page about all runs of a sweep",
}
TOOLS = {  # subcommands without a rule
    "clean": "remove what interrupted or older trainings left in work folders",
    "compare": "put evaluated models side by side, and say which differences are noise",
    "embed": "embed the cells of an h5ad file with a pretrained model",
    "perturb": "remove or raise a gene in the model and list what moves",
    "predict": "label the cells of an h5ad file with a fine-tuned model",
    "response": "predict how expression shifts under a stimulation, for persons never seen",
    "export": "write a model as safetensors or in scGPT's layout",
    "import_model": "make a model of a folder with safetensors or in scGPT's layout",
}

logger = logging.getLogger("censusformer")


def _parser(step: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="censusformer", description="From the CELLxGENE Census to a pretrained single-cell transformer."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    for name, summary in {**STEPS, **TOOLS}.items():
        command = commands.add_parser(name, help=summary, description=summary)
        command.add_argument("--log", type=Path, metavar="FILE", help="write messages to this file, too")
        if name == step:
            importlib.import_module(f"censusformer.steps.{name}").add_arguments(command)
    return parser


def _start_log(file: Path | None) -> None:
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if file is not None and _first_process():
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(file, mode="w"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    for old in logger.handlers:
        old.close()
    logger.handlers, logger.propagate = handlers, False
    logger.setLevel(logging.INFO)


def _first_process() -> bool:
    """Whether this is the process that writes the log, where srun or Lightning started several."""
    return all(os.environ.get(name, "0") == "0" for name in ("SLURM_PROCID", "LOCAL_RANK"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one step; 0 when it ends well, 2 for input that the user has to mend, 1 for anything else."""
    argv = list(sys.argv[1:] if argv is None else argv)
    step = next((word for word in argv if not word.startswith("-")), None)
    args = _parser(step).parse_args(argv)
    try:
        _start_log(args.log)
        importlib.import_module(f"censusformer.steps.{args.step}").run(args)
    except InputError as error:
        logger.error("%s: %s", args.step, error)
        return 2
    except OSError as error:
        if error.errno is None:
            raise
        name = f"{error.filename}: " if error.filename else ""
        logger.error("%s: %s%s", args.step, name, os.strerror(error.errno))
        return 1
    except Exception:
        logger.exception("%s stopped: this is a bug in censusformer, or in a library that it calls", args.step)
        return 1
    return 0
