"""Put evaluated models side by side: which is better, and which differences are noise. One page, and a printed table.

Reads `evaluation/by_sample.parquet` and `evaluation/summary.json` of each run's folder (or of the folder that `evaluate
--out` named), and the `config.yaml` of runs that have one; writes one page. Runs that differ in `train.seed` alone are
gathered, and their spread counts. No rule runs it.
"""

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from censusformer.errors import InputError
from censusformer.evaluation import compare
from censusformer.evaluation.scores import COLUMNS as SUMS
from censusformer.files import atomic
from censusformer.steps._report import read_result
from censusformer.steps._tables import read_table

logger = logging.getLogger("censusformer")
BY_SAMPLE, SUMMARY, CONFIG = "by_sample.parquet", "summary.json", "config.yaml"
COLUMNS = ("split", "sample", "head", "predictor", *SUMS)
NO_MODEL = ("dataset", "run", "evaluate", "execution", "finetune")  # settings that change nothing of a model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("folders", type=Path, nargs="+", metavar="DIR", help="runs, results/{dataset}/{run}, or folders of evaluate")
    add("--out", type=Path, default=Path("compare.html"), help="the page to write (default: compare.html)")


def run(args: argparse.Namespace) -> None:
    """Write the page and print the tables."""
    from censusformer.report import comparison
    from censusformer.report.comparison_page import render

    found = read_comparison(args.folders)
    page = render(found)
    with atomic(args.out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    tables = comparison.models_table(found), comparison.pairs_table(found)
    parts = [comparison.headline(found), *map(comparison.plain, tables), comparison.words(found)]
    parts += comparison.warnings(found)
    sys.stdout.write("\n\n".join(parts) + "\n")
    logger.info("%s: %d models, %.1f MB", args.out, len(args.folders), len(page) / 1e6)


def read_comparison(folders: Sequence[Path]) -> Any:
    """Read what `evaluate` left of each model.

    Raises
    ------
    InputError
        A folder holds no evaluation, or no sample was measured by all.
    """
    from censusformer.report.comparison import Comparison

    places = [_place(folder) for folder in folders]
    by_sample = [read_table(place / BY_SAMPLE, COLUMNS).to_pandas() for place in places]
    has = [set(table["split"].unique()) for table in by_sample]
    split = "test" if all("test" in one for one in has) else "valid"
    if not all(split in one for one in has):
        raise InputError("some were measured on held-out samples alone, others on validation cells alone")
    settings, names = _settings(folders, places), _names(folders)
    runs = [
        compare.Run(name, one, compare.sums_of(table, split))
        for name, one, table in zip(names, settings, by_sample, strict=True)
    ]
    found = Comparison(tuple(compare.groups_of(runs)), split)
    if not found.samples:
        raise InputError(f"no {split} sample was measured by all of {', '.join(names)}: evaluate them on the same data")
    return found


def _place(folder: Path) -> Path:
    """The folder that holds the evaluation."""
    for place in (folder / "evaluation", folder):
        if (place / BY_SAMPLE).is_file() and (place / SUMMARY).is_file():
            return place
    raise InputError(f"{folder} holds no evaluation/{BY_SAMPLE} and {SUMMARY}: run `censusformer evaluate` first")


def _settings(folders: Sequence[Path], places: Sequence[Path]) -> list[dict[str, Any]]:
    """Each model's settings, flat: of all their `config.yaml` where each has one, else those in the models' files."""
    summaries = [read_result(place / SUMMARY) for place in places]
    whole = all((folder / CONFIG).is_file() for folder in folders)
    return [
        {**(_of_config(folder / CONFIG) if whole else _of_model(summary)), **_of_data(summary)}
        for folder, summary in zip(folders, summaries, strict=True)
    ]


def _of_config(path: Path) -> dict[str, Any]:
    try:
        flat = _flat(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, AttributeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} holds no settings: delete it and run snakemake again") from error
    return {key: value for key, value in flat.items() if key.split(".")[0] not in NO_MODEL}


def _of_model(summary: Mapping[str, Any]) -> dict[str, Any]:
    model = summary.get("model", {})
    return {**_flat(model.get("args", {})), "vocabulary": str(model.get("vocab_sha256"))[:12]}


def _flat(sections: Mapping[str, Any]) -> dict[str, Any]:
    """`{"hvg": {"n_top": 5}, "run": "a"}` -> `{"hvg.n_top": 5, "run": "a"}`."""
    nested = {key: value for key, value in sections.items() if isinstance(value, Mapping)}
    plain = {key: value for key, value in sections.items() if key not in nested}
    return plain | {f"{name}.{key}": value for name, part in nested.items() for key, value in _flat(part).items()}


def _of_data(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What the model was measured on, in short: other shards with the same settings are other data all the same."""
    return {"data": str(summary.get("shards_sha256") or summary.get("h5ad_sha256"))[:12]}


def _names(folders: Sequence[Path]) -> list[str]:
    """The ends of the folders' paths, as long as it takes to tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for n in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-n:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    raise InputError("a folder is given twice: give each model once")
