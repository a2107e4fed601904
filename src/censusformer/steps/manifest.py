"""Reads all shards and checks them, writes the list of them with rows, tokens and checksums that readers take."""

import argparse
import json
import logging
import os
from dataclasses import asdict, replace
from pathlib import Path

from censusformer.errors import InputError
from censusformer.files import atomic, with_checksum
from censusformer.tokens.shards import SCHEMA_VERSION, ShardMeta, file_sha256, read_shard

logger = logging.getLogger("censusformer")
SPLITS = ("train", "valid", "test")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this step."""
    for name in SPLITS:
        parser.add_argument(f"--{name}", type=Path, nargs="+", required=True, help=f"the {name} shards")
    for name, kind, default, text in (
        ("method", str, "cell", "whose quantiles are the edges of the bins: cell or global"),
        ("ties", str, "random", "the bin of a value on several edges: random or middle"),
        ("seed", int, 0, "seed of the draws among them"),
    ):
        parser.add_argument(f"--binning-{name}", type=kind, default=default, help=f"on record for models: {text}")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write; paths in it start at its folder")


def run(args: argparse.Namespace) -> None:
    """List the shards; refuse shards that do not belong together."""
    first, splits, samples = None, {}, {}
    for name in SPLITS:
        files, samples[name] = [], set()
        for path in sorted(getattr(args, name)):
            cells, meta = read_shard(path)
            first = first or (path, meta)
            _refuse_mixture(first, (path, meta))
            files.append(_entry(path, args.out.parent, len(cells), len(cells.genes), meta.dropped))
            samples[name].update(cells.sample.names)
        splits[name] = {**_totals(files), "samples": len(samples[name]), "files": files}
    _check(splits, samples)
    about = {key: value for key, value in asdict(first[1]).items() if key != "dropped"}
    about["binning"] = {key: getattr(args, f"binning_{key}") for key in ("method", "ties", "seed")}
    content = with_checksum({"schema_version": SCHEMA_VERSION, **about, "splits": splits})
    with atomic(args.out) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
    for name in SPLITS:
        logger.info("%s: %s", name, ", ".join(f"{splits[name][key]:,} {key}" for key in ("samples", "rows", "tokens")))


def _refuse_mixture(one: tuple[Path, ShardMeta], other: tuple[Path, ShardMeta]) -> None:
    if replace(one[1], dropped=0) != replace(other[1], dropped=0):
        raise InputError(
            f"{one[0]} and {other[0]} were written with different vocabularies, binning.n_bins or hvg.n_top: "
            "delete the older one and run snakemake again"
        )


def _entry(path: Path, folder: Path, rows: int, tokens: int, dropped: int) -> dict[str, str | int]:
    relative = Path(os.path.relpath(path, folder)).as_posix()
    return {"path": relative, "rows": rows, "tokens": tokens, "dropped": dropped, "sha256": file_sha256(path)}


def _totals(files: list[dict]) -> dict[str, int]:
    return {key: sum(file[key] for file in files) for key in ("rows", "tokens", "dropped")}


def _check(splits: dict[str, dict], samples: dict[str, set[str]]) -> None:
    shared = samples["test"] & (samples["train"] | samples["valid"])
    if shared:
        raise InputError(f"sample {min(shared)} stands in test and in training shards: delete shards/ and run again")
    if not splits["train"]["rows"]:
        raise InputError(
            "no training cell is left: lower filter.min_genes_per_cell or tokenize.min_genes, or take more cells"
        )
    if not splits["valid"]["rows"]:
        raise InputError(
            f"no validation cell beside {splits['train']['rows']} training cells: raise split.valid_fraction, "
            "change split.seed or take more cells"
        )
