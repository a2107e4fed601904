"""Reading for the step `sweep`: what each run's folder holds, and why a run did not finish."""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from censusformer.errors import InputError
from censusformer.evaluation.scores import COLUMNS as SUMS
from censusformer.report.sweep import Sweep, SweepRun
from censusformer.steps._report import read_metrics, read_result
from censusformer.steps._tables import read_table

CONFIG, BY_SAMPLE, EMBEDDINGS = "config.yaml", "evaluation/by_sample.parquet", "evaluation/embeddings.parquet"
SCORES = ("representation", "task", "metric", "value")
COLUMNS = ("split", "sample", "head", "predictor", *SUMS)
UNVARIED = ("evaluate", "embeddings", "execution")  # sections that make no other model
NEEDED = ("args.json", "metrics.csv", BY_SAMPLE)
_ERROR = re.compile(r"\d\d:\d\d:\d\d (\w+): (.+)")  # how `cli` logs what stopped a step


def read_sweep(args: argparse.Namespace) -> Sweep:
    """Read every run that the options name.

    Raises
    ------
    InputError
        A run is not finished, and `--unfinished` was not given; or none left even its settings.
    """
    here = args.out.resolve().parent
    wanted = {"unfinished": args.unfinished, "embeddings": args.sweep_embeddings}
    runs = tuple(_read_run(path, here, **wanted) for path in args.runs)
    return Sweep(args.sweep_name, args.sweep_criterion, runs)


def _read_run(folder: Path, here: Path, *, unfinished: bool, embeddings: bool) -> SweepRun:
    needed = (*NEEDED, EMBEDDINGS) if embeddings else NEEDED
    state = state_of(folder, needed, stale=unfinished)
    if state and not unfinished:
        raise InputError(f"{folder}: {state}; run snakemake again, or give --unfinished")
    settings = _settings(folder)
    name = "/".join(folder.resolve().parts[-2:])
    if state:
        return SweepRun(name, settings, state=state)
    scores = folder / EMBEDDINGS
    return SweepRun(
        name,
        settings,
        link=os.path.relpath(folder / "report.html", here),  # it may come after this page
        command=f"snakemake --cores all --configfile {folder / CONFIG}",
        args=read_result(folder / "args.json"),
        metrics=read_metrics(folder / "metrics.csv"),
        by_sample=read_table(folder / BY_SAMPLE, COLUMNS).to_pandas(),
        embeddings=read_table(scores, SCORES).to_pandas() if embeddings else pd.DataFrame(),
    )


def _settings(folder: Path) -> dict[str, Any]:
    """The run's settings, flat, without its names; none where they were never written."""
    path = folder / CONFIG
    if not path.is_file():
        return {}
    try:
        sections = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {
            f"{section}.{key}": value
            for section, keys in sections.items() if isinstance(keys, dict)
            for key, value in keys.items() if section not in UNVARIED
        }  # fmt: skip
    except (yaml.YAMLError, AttributeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} holds no settings: delete it and run snakemake again") from error


def state_of(folder: Path, needed: Sequence[str], *, stale: bool) -> str:
    """Why a run is not finished; empty where it is.

    With `stale`, results older than the run's settings are none: what was to replace them failed before.
    """
    missing = [name for name in (*needed, CONFIG) if not (folder / name).is_file()]
    date = (folder / BY_SAMPLE).stat().st_mtime_ns if not missing else 0
    if not missing and not (stale and (folder / CONFIG).stat().st_mtime_ns > date):
        return ""
    return _reason(folder) or "not finished"


def _reason(folder: Path) -> str:
    """What stopped it, by the newest log of the run or of its data set with an error; those of older settings apart."""
    config = folder / CONFIG
    since = config.stat().st_mtime_ns if config.is_file() else 0
    logs = {log: log.stat().st_mtime_ns for log in (*folder.glob("logs/*.log"), *folder.parent.glob("logs/**/*.log"))}
    for log in sorted((log for log in logs if logs[log] >= since), key=lambda log: logs[log], reverse=True):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [found for found in map(_ERROR.fullmatch, lines) if found and found[1] in {log.stem, log.parent.name}]
        if errors:
            return f"{errors[-1][1]} failed: {errors[-1][2]}"
    return ""
