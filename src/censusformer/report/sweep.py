"""The runs of a sweep, gathered by setting: which is best, what differs, and by how much more than noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from censusformer.evaluation import compare
from censusformer.evaluation.compare import Difference, Estimate, Group

HEADS = ("gep", "gepc")
HEAD_NAMES = {"gep": "GEP", "gepc": "GEPC"}
SPLIT_NAMES = {"valid": "validation cells", "test": "held-out samples"}
METRIC_NAMES = {
    "mse": "mean squared error",
    "mae": "mean absolute error",
    "r2": "R²",
    "spearman_cell": "Spearman correlation within cells",
    "reducible_removed": "share of the reducible error removed",
}
REMOVED = "reducible_removed"
TASKS = {
    ("held_out", "logistic_macro_f1"): "macro-F1",
    ("in_turn", "logistic_macro_f1"): "macro-F1",
    ("clusters", "nmi"): "NMI of clusters and types",
}
"""Tasks and metrics of `embeddings` that say how well cell types are told, the first choice first, and their names."""


@dataclass(frozen=True)
class SweepRun:
    """What one run left.

    Parameters
    ----------
    name
        `{dataset}/{run}`.
    settings
        Flat, without names, `evaluate` and `execution`; empty where the run never began.
    state
        Why it is not finished; empty where it is, and then the rest is there.
    link
        Its report's address, seen from the page.
    command
        What builds it.
    args, metrics, by_sample, embeddings
        `args.json`, `metrics.csv`, `evaluation/by_sample.parquet` and `evaluation/embeddings.parquet`; the last is
        empty where there is none.
    """

    name: str
    settings: Mapping[str, Any]
    state: str = ""
    link: str = ""
    command: str = ""
    args: Mapping[str, Any] = field(default_factory=dict)
    metrics: pd.DataFrame = field(default_factory=pd.DataFrame)
    by_sample: pd.DataFrame = field(default_factory=pd.DataFrame)
    embeddings: pd.DataFrame = field(default_factory=pd.DataFrame)

    def cell_types(self, task: tuple[str, str]) -> float:
        """How well the `<cls>` embeddings tell cell types, by task and metric of `embeddings`; NaN if not measured."""
        if self.embeddings.empty:
            return float("nan")
        rows = self.embeddings.set_index(["representation", "task", "metric"])["value"]
        return float(rows.get(("model_cls", *task), float("nan")))


@dataclass(frozen=True)
class Setting:
    """Runs that differ in `train.seed` alone.

    Parameters
    ----------
    group
        What `compare` knows of them, on the split that the page compares on.
    runs
        The same runs.
    varied
        Its values of the keys that the sweep varies.
    label
        What tells it from the setting that the others are compared with.
    """

    group: Group
    runs: tuple[SweepRun, ...]
    varied: Mapping[str, Any]
    label: str

    def mean(self, *path: str) -> float:
        """Mean of a number of `args.json` over the runs."""
        return float(np.mean([_at(run.args, path) for run in self.runs]))

    @cached_property
    def curve(self) -> pd.DataFrame:
        """Validation losses and those of fixed training cells by epoch, means over seeds: step, valid, train_fixed."""
        return pd.concat([_curve(run.metrics) for run in self.runs]).groupby("epoch", as_index=False).mean()


def _at(tree: Mapping[str, Any], path: Sequence[str]) -> float:
    for key in path:
        tree = tree[key]
    return float(tree)  # type: ignore[arg-type]


def _curve(metrics: pd.DataFrame) -> pd.DataFrame:
    rows = metrics[(metrics["head"] == "sum") & metrics["mask_ratio"].isna() & (metrics["span"] == "epoch")]
    rows = rows[rows["split"].isin(["valid", "train_fixed"])]
    return rows.pivot_table(index=["epoch", "step"], columns="split", values="mse").reset_index()


@dataclass(frozen=True)
class Sweep:
    """All runs of a sweep.

    Parameters
    ----------
    criterion
        What the best is the best by: `{split}.{head}.{metric}`.
    """

    name: str
    criterion: str
    runs: tuple[SweepRun, ...]

    @cached_property
    def finished(self) -> list[SweepRun]:
        """The runs that have results."""
        return [run for run in self.runs if not run.state]

    @cached_property
    def failed(self) -> list[SweepRun]:
        """The others."""
        return [run for run in self.runs if run.state]

    @cached_property
    def splits(self) -> list[str]:
        """The splits that every finished run was measured on, held-out samples first."""
        has = [set(run.by_sample["split"].unique()) for run in self.finished]
        return [split for split in ("test", "valid") if has and all(split in one for one in has)]

    @cached_property
    def task(self) -> tuple[str, str] | None:
        """The first of `TASKS` that all runs have: by it embeddings are compared."""
        has = (task for task in TASKS if all(run.cell_types(task) > 0 for run in self.finished))
        return next(has, None) if self.finished else None

    @property
    def wanted(self) -> tuple[str, str, str]:
        """Split, head and metric of the criterion; without held-out samples validation cells stand for them."""
        split, head, metric = self.criterion.split(".")
        return (split if split in self.splits else "valid"), head, metric

    @cached_property
    def varied(self) -> list[str]:
        """The keys that the sweep varies, seeds left out."""
        return compare.differing(self._groups[self.splits[0]]) if self.finished else []

    @cached_property
    def _groups(self) -> dict[str, list[Group]]:
        """The groups, with the sums of each split."""
        return {
            split: compare.groups_of(
                [compare.Run(run.name, run.settings, compare.sums_of(run.by_sample, split)) for run in self.finished]
            )
            for split in self.splits
        }

    def settings(self, split: str | None = None) -> list[Setting]:
        """All settings in the order of the sweep, with what was measured on a split (None: the first of `splits`)."""
        if not self.finished:
            return []
        named = {run.name: run for run in self.finished}
        groups = self._groups[split or self.splits[0]]
        values = [{key: group.settings.get(key) for key in self.varied} for group in groups]
        centre = values[_centre(values)]
        return [
            Setting(group, tuple(named[run.name] for run in group.runs), varied, _label(varied, centre))
            for group, varied in zip(groups, values, strict=True)
        ]

    def reference(self, split: str | None = None) -> Setting:
        """The setting that the others are compared with: the one that differs least from all; the first of equals."""
        settings = self.settings(split)
        return settings[_centre([setting.varied for setting in settings])]

    def ranked(self) -> list[Setting]:
        """The settings from the best to the worst by the criterion."""
        split, head, metric = self.wanted
        settings = {setting.group.name: setting for setting in self.settings(split)}
        return [settings[group.name] for group in compare.ranked(self._groups[split], head, metric)]

    @property
    def seeds_known(self) -> bool:
        """Whether a setting was trained with more than one seed."""
        return any(len(setting.runs) > 1 for setting in self.settings())

    def estimates(self, split: str, head: str, metric: str) -> dict[str, Estimate]:
        """A metric of each setting, by the name of its group."""
        groups = self._groups[split]
        noise = compare.seed_noise(groups, head, metric)
        return {group.name: compare.estimate(group, head, metric, noise) for group in groups}

    def differences(self, split: str, head: str, metric: str) -> dict[str, Difference]:
        """Each setting less the reference, by the name of its group."""
        groups, reference = self._groups[split], self.reference(split).group
        noise = compare.seed_noise(groups, head, metric)
        others = [group for group in groups if group is not reference]
        return {group.name: compare.difference(group, reference, head, metric, noise) for group in others}

    def same_positions(self, split: str) -> bool:
        """Whether each sample of a split has as many hidden values in all runs: the same cells, whatever their bins."""
        counts = [run.of("gep")["n"] for group in self._groups[split] for run in group.runs]
        return all(count.equals(counts[0]) for count in counts)

    def same_values(self, split: str) -> bool:
        """Whether all runs were asked for the same hidden values of a split, so that their errors compare."""
        return all(compare.same_values(self._groups[split], head) for head in HEADS)


def _centre(values: Sequence[Mapping[str, Any]]) -> int:
    counts = {
        key: pd.Series([repr(value[key]) for value in values]).value_counts() for key in (values[0] if values else ())
    }
    alike = [sum(counts[key][repr(value[key])] for key in value) for value in values]
    return int(np.argmax(alike))


def _label(varied: Mapping[str, Any], centre: Mapping[str, Any]) -> str:
    other = {key: value for key, value in varied.items() if repr(value) != repr(centre[key])}
    return ", ".join(f"{key} {text(value)}" for key, value in other.items()) or "reference"


def text(value: Any) -> str:
    """A setting's value as it stands on the page."""
    if isinstance(value, list):
        return ", ".join(map(text, value))
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def shown(value: float, metric: str) -> str:
    """A metric's value with its unit."""
    if np.isnan(value):
        return "-"
    if metric == REMOVED:
        return f"{100 * value:.1f}\u00a0%"
    return f"{value:.2f}" if metric in ("mse", "mae") else f"{value:.3f}"


def shown_difference(estimate: Estimate, metric: str) -> str:
    """A difference with its interval."""
    scale, unit = (100, "\u00a0points") if metric == REMOVED else (1, "")
    digits = 3 if metric in ("r2", "spearman_cell") else 2
    value, low, high = (f"{scale * x:+.{digits}f}" for x in (estimate.value, estimate.low, estimate.high))
    return f"{value}{unit}" + ("" if np.isnan(estimate.low) else f" ({low} to {high})")


def headline(sweep: Sweep) -> str:
    """One sentence: which setting is best, by how much, and whether that is more than noise."""
    if not sweep.finished:
        return "No run is finished."
    split, head, metric = sweep.wanted
    best, reference = sweep.ranked()[0], sweep.reference(split)
    value = shown(sweep.estimates(split, head, metric)[best.group.name].value, metric)
    what = f"{METRIC_NAMES[metric]} {value} with {HEAD_NAMES[head]} on {SPLIT_NAMES[split]}"
    differences = sweep.differences(split, head, metric)
    if not differences:
        return f"One setting: {what}."
    if best.group.name == reference.group.name:
        others = [item for item in differences.values() if item.verdict != "worse"]
        rest = "all others are worse" if not others else f"{len(others)} of {len(differences)} others may be as good"
        return f"The reference setting is best: {what}; {rest}."
    found = differences[best.group.name]
    lead = f"{shown_difference(found.estimate, metric)} against the reference"
    noise = "noise" if sweep.seeds_known else "the noise of samples, by one seed"
    certain = {"better": f"more than {noise}", "noise": "within noise", "unknown": "too few samples and seeds to say"}
    return f"Best is {best.label}: {what}, {lead}: {certain.get(found.verdict, found.verdict)}."
