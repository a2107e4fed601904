"""The combinations of a sweep: spread out, named, checked, counted. Used by the Snakefile, never by a step."""

import hashlib
import itertools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from censusformer.config import (
    DATA_SECTIONS,
    NO_SWEEP,
    RUN_SECTIONS,
    check,
    coerce,
    flatten,
    nest,
    only,
    resolve,
    unknown,
)
from censusformer.errors import InputError

MOST = 1000  # combinations; more take Snakemake minutes to plan, and nobody reads a page about them
ABOUT = ("name", "criterion", "embeddings")  # keys of `sweep` that are about it as a whole
LONGEST = 100  # a name, as the schema has it
CRITERION = "valid.gep.reducible_removed"
_CRITERIA = re.compile(r"(valid|test)\.(gep|gepc)\.(mse|mae|r2|spearman_cell|reducible_removed)")
_NAME = re.compile(r"[A-Za-z0-9_][\w.+-]{0,99}")

Run = tuple[str, str]  # dataset and run
Settings = dict[str, Any]  # flat


@dataclass(frozen=True)
class Sweep:
    """All runs of a config.

    Parameters
    ----------
    runs
        The flat settings of each; the config's own alone where it has no sweep.
    name
        Of the page `results/sweep-{name}.html`; None where the config has no sweep.
    criterion
        What the best is the best by: `{split}.{head}.{metric}`.
    embeddings
        Whether the page shows how well embeddings tell cell types: it then waits for the step `embeddings` of each run.
    """

    runs: dict[Run, Settings]
    name: str | None
    criterion: str = CRITERION
    embeddings: bool = False


def read_sweep(config: Mapping[str, Any], schema: Mapping[str, Any]) -> Sweep:
    """Read the config: one run for each combination of `sweep`, or the config alone.

    `sweep` is a grid (a mapping of keys to lists of values), or a list of grids. As a mapping it may also hold `name`,
    `criterion`, `embeddings`, and the grids under `runs`. A value that is no list stands for itself; where a key takes
    a list, as `mask.ratios`, several values are a list of lists.

    Raises
    ------
    InputError
        The config or a combination is wrong, two have one name, or there are too many.
    """
    settings = check(config, schema)
    grids, about = _grids(settings.pop("sweep", None))
    base, runs, prepared = flatten(settings), {}, {}
    spread = [_values(flatten(grid), base, schema) for grid in grids]
    _refuse_too_many(spread)
    for entry in itertools.chain.from_iterable(map(_product, spread or [{}])):
        one = _combine(base, entry, schema)
        pair, data = (one["dataset"], one["run"]), only(one, DATA_SECTIONS)
        if pair in runs:
            raise InputError(f"sweep: two combinations are called {pair[0]}/{pair[1]}")
        if prepared.setdefault(pair[0], data) != data:
            raise InputError(f"sweep: two different preparations are called {pair[0]}; name them by `dataset`")
        runs[pair] = one
    name = about.get("name", f"{base['dataset']}-{base['run']}") if grids else None
    return Sweep(runs, name, about.get("criterion", CRITERION), about.get("embeddings") == "true")


def _grids(sweep: Any) -> tuple[list[Mapping], dict[str, str]]:
    """The list of grids, and what is said about the sweep as a whole."""
    if isinstance(sweep, Mapping):
        about = {key: str(sweep[key]) for key in ABOUT if key in sweep}
        rest = {key: value for key, value in sweep.items() if key not in (*ABOUT, "runs")}
        if "runs" in sweep and rest:
            raise InputError(f"sweep: {', '.join(map(str, rest))} stands beside `runs`; put it into a grid below it")
        grids = sweep.get("runs", [rest] if rest else [])
    else:
        about, grids = {}, sweep or []
    grids = [grids] if isinstance(grids, Mapping) else grids
    if not isinstance(grids, list) or not all(isinstance(grid, Mapping) for grid in grids):
        raise InputError("sweep.runs: a grid (a mapping of keys to lists of values) or a list of grids is allowed")
    _check_about(about)
    return grids, about


def _check_about(about: dict[str, str]) -> None:
    if not _NAME.fullmatch(about.get("name", "sweep")):
        raise InputError(f"sweep.name: {about['name']!r} is not allowed; allowed: letters, digits and . _ + - alone")
    about["embeddings"] = about.get("embeddings", "false").lower()
    if about["embeddings"] not in ("true", "false"):
        raise InputError(f"sweep.embeddings: {about['embeddings']!r} is not allowed; allowed: true or false")
    if not _CRITERIA.fullmatch(about.get("criterion", CRITERION)):
        raise InputError(
            f"sweep.criterion: {about['criterion']!r} is not allowed; allowed: valid or test, gep or gepc, "
            f"and mse, mae, r2, spearman_cell or reducible_removed, as in {CRITERION}"
        )


def _values(grid: Mapping[str, Any], base: Settings, schema: Mapping[str, Any]) -> dict[str, list]:
    """The values of each key of a grid."""
    values = {}
    for key, value in grid.items():
        if key not in base:
            raise InputError(f"sweep: {unknown('', key, list(base))}")
        if key.split(".")[0] in NO_SWEEP:
            raise InputError(f"sweep: {key} changes no model, so a sweep cannot vary it")
        several = isinstance(value, list)
        if several and _takes_list(key, schema):
            several = any(item is None or isinstance(item, list) for item in value)
        values[key] = value if several else [value]
        if not values[key]:
            raise InputError(f"sweep: {key} has no value; give one at least, or leave the key out")
    return values


def _takes_list(key: str, schema: Mapping[str, Any]) -> bool:
    part: Mapping[str, Any] = schema
    for name in key.split("."):
        part = resolve(part["properties"][name], schema)
    return "array" in part.get("type", ())


def _refuse_too_many(spread: Iterable[Mapping[str, list]]) -> None:
    n = sum(math.prod(len(values) for values in grid.values()) for grid in spread)
    if n > MOST:
        raise InputError(f"sweep: {n:,} combinations are more than {MOST:,}; give fewer values, or make several sweeps")


def _product(grid: Mapping[str, list]) -> Iterable[Settings]:
    return (dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values()))


def _combine(base: Settings, entry: Settings, schema: Mapping[str, Any]) -> Settings:
    wanted = flatten(coerce(nest(entry), schema, schema))
    for key in wanted.keys() - base.keys():  # a mapping stands where a value should
        raise InputError(f"sweep: {unknown('', key, list(base))}")
    changes = {key: value for key, value in wanted.items() if value != base[key]}
    names = {
        "dataset": changes.get("dataset", name_of(base["dataset"], only(changes, DATA_SECTIONS))),
        "run": changes.get("run", name_of(base["run"], only(changes, RUN_SECTIONS))),
    }
    return flatten(check(nest({**base, **wanted, **names}), schema))


def name_of(base: str, changes: Mapping[str, Any]) -> str:
    """'base', {'train.seed': 2} -> 'base-train.seed_2': a name that a person, a shell and a Parquet reader can read."""
    shown = {key: "+".join(map(str, value)) if isinstance(value, list) else value for key, value in changes.items()}
    text = "-".join([base, *(f"{key}_{value}" for key, value in sorted(shown.items()))])
    safe = re.sub(r"[^\w.+-]+", "_", text)[:LONGEST]
    return safe if safe == text else f"{safe[: LONGEST - 7]}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def cells_to_train(settings: Settings) -> float:
    """How many cells a run passes through its model, at most; infinite where no setting bounds it."""
    cells, steps = settings["census.max_cells"], settings["train.max_steps"]
    epochs = settings["train.epochs"] * (math.inf if cells is None else cells)
    return min(epochs, math.inf if steps is None else steps * settings["train.batch_size"])


def cost(sweep: Sweep, rates: Mapping[Run, float]) -> str:
    """What a sweep asks for, in a line.

    Parameters
    ----------
    rates
        Cells a second of the runs that are trained already.
    """
    n_datasets = len({dataset for dataset, _ in sweep.runs})
    left = [pair for pair in sweep.runs if pair not in rates]
    text = f"sweep {sweep.name}: runs {len(sweep.runs):,}, data sets {n_datasets:,}, to be trained {len(left):,}"
    if not left:
        return text
    cells = sum(cells_to_train(sweep.runs[pair]) for pair in left)
    if math.isinf(cells):
        return f"{text}, on all cells that select finds (its log tells cells and GB of each data set)"
    text += f", on {cells:,.0f} cells at most, each epoch counted"
    if not rates:
        return f"{text} (the log of select tells cells and GB of each data set)"
    rate = sorted(rates.values())[len(rates) // 2]
    return f"{text}: {cells / rate / 60:,.0f} min one after the other, at the {rate:,.0f} cells/s of finished runs"
