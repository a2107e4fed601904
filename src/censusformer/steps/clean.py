"""Remove work folders that no run of the present settings, shards and code would go on from.

Reads each run's `config.yaml`, `shards.json` and `vocab.json`; no rule runs it.
"""

import argparse
import logging
import shutil
from pathlib import Path

import yaml

from censusformer.digest import code_digest
from censusformer.errors import InputError
from censusformer.tokens.shards import file_sha256
from censusformer.tokens.vocabulary import Vocabulary

logger = logging.getLogger("censusformer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="folder of all results (default: results)"
    )
    parser.add_argument("--dry-run", action="store_true", help="name what would be removed, with its size, alone")


def run(args: argparse.Namespace) -> None:
    """Name stale work folders and remove them."""
    from censusformer.training import work

    if not args.results.is_dir():
        raise InputError(f"--results {args.results}: no such folder")
    total = 0
    for place in sorted(args.results.glob("*/*/work")):
        wanted = present(place.parent)
        for folder in sorted(path for path in place.iterdir() if path.is_dir()):
            reason = why_stale(folder, wanted)
            if reason is None:
                continue
            try:
                with work.locked(folder):
                    size = _size(folder)
                    total += size
                    said = "would remove" if args.dry_run else "removing"
                    logger.info("%s %s (%s): %s", said, folder, readable(size), reason)
                    if not args.dry_run:
                        shutil.rmtree(folder)
            except InputError as error:
                logger.info("kept: %s", error)
    logger.info("%s %s", readable(total), "to be had" if args.dry_run else "removed")


def present(run: Path):
    """What a `pretrain` of this run would be of, as a `work.About`; None where that cannot be told."""
    from censusformer.training import work
    from censusformer.training.session import settings_of

    try:
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        sections = {name: config[name] for name in ("mask", "model", "train")}
        settings = settings_of({f"{name}_{key}": v for name, keys in sections.items() for key, v in keys.items()})
        shards, vocabulary = run.parent / "shards.json", Vocabulary.read(run.parent / "vocab.json")
        identity = work.identity(settings, file_sha256(shards), vocabulary.sha256)
    except (OSError, InputError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        logger.info("%s is left alone: its config.yaml, shards.json or vocab.json is not there (%s)", run, error)
        return None
    return work.About(identity, code_digest("censusformer.steps.pretrain"), settings.train.epochs)


def why_stale(folder: Path, wanted) -> str | None:
    """Why nothing goes on from this work folder; None where something does, or nobody knows."""
    from censusformer.training import work

    if wanted is None or folder.name == wanted.name:
        return None
    about = work.About.read(folder)
    if about is None:
        return f"it has no {work.ABOUT}"
    state = "finished" if about.finished else "unfinished"
    return f"{state}, with another {', '.join(wanted.differs(about)) or 'name'}"


def _size(folder: Path) -> int:
    """Bytes that removing the folder frees: files that also stand elsewhere take no space of their own."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.stat().st_nlink == 1)


def readable(size: float) -> str:
    """1234567 -> '1.2 MB'."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
