"""Which differences between models are noise: over the same held-out samples, and over seeds.

The unit is a `Group`: runs that differ in `train.seed` alone. What is known of a run is its settings and, for each
held-out sample, the sums that every metric is made of (`by_sample.parquet`, see `reconstruction.by_sample`); all
functions here are pure, so that a page about two runs and one about a sweep say the same.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from censusformer.evaluation.scores import COLUMNS, METRICS, MIN_SAMPLES, quantiles, resample

SEED = "train.seed"
LOWER_IS_BETTER = ("mse", "mae")
_LABELS = ["head", "predictor", "sample"]
_N = COLUMNS.index("n")
_SEED_AT_END = re.compile(r"[-_./ ]*(train\.)?seed[-_=. ]*\d*$")
_TARGETS = [COLUMNS.index(name) for name in ("n", "y", "yy", "ties")]  # what depends on the hidden values alone


@dataclass(frozen=True)
class Run:
    """One evaluated model.

    Parameters
    ----------
    name
        What it is called.
    settings
        Flat: `model.n_layers`, `train.seed`, …, and whatever names the data. Two runs whose settings differ in
        `train.seed` alone are taken for repeats of each other.
    sums
        Index head, predictor, sample, columns `scores.COLUMNS`: of `sums_of`.
    """

    name: str
    settings: Mapping[str, Any]
    sums: pd.DataFrame

    def of(self, head: str, predictor: str = "model") -> pd.DataFrame:
        """Sums by sample of one predictor, samples without hidden values left out."""
        rows = self.sums.loc[(head, predictor)]
        return rows[rows["n"] > 0].sort_index()

    def has(self, head: str, predictor: str) -> bool:
        """Whether the run was measured with this predictor."""
        return (head, predictor) in self.sums.index.droplevel("sample")


@dataclass(frozen=True)
class Group:
    """Runs that differ in `train.seed` alone; often one."""

    name: str
    runs: tuple[Run, ...]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that they share."""
        return {key: value for key, value in self.runs[0].settings.items() if key != SEED}

    @cached_property
    def seeds(self) -> list[Any]:
        """Their seeds, in order."""
        return [run.settings.get(SEED) for run in self.runs]


@dataclass(frozen=True)
class SeedNoise:
    """What seeds alone do to a metric: the variance between runs of one group, pooled over groups.

    Parameters
    ----------
    variance
        NaN where no group has two runs.
    freedom
        Its degrees of freedom: runs less groups.
    """

    variance: float
    freedom: int


@dataclass(frozen=True)
class Estimate:
    """A metric of a group, or a difference of two, with its 95 % interval.

    Parameters
    ----------
    value
        Mean over the group's seeds (for a difference: the one's less the other's).
    low, high
        NaN where nothing is known of the noise.
    basis
        What the interval is over: `samples`, `samples and seeds`, `seeds`, or nothing.
    n_samples
        Held-out samples that it rests on.
    """

    value: float
    low: float
    high: float
    basis: str
    n_samples: int


@dataclass(frozen=True)
class Difference:
    """One group less another in one metric.

    Parameters
    ----------
    same_values
        Whether both were asked for the same hidden values; if not, errors have different floors and
        `reducible_removed` is the metric to look at.
    """

    one: str
    other: str
    head: str
    metric: str
    estimate: Estimate
    same_values: bool

    @property
    def verdict(self) -> str:
        """`better` or `worse` (the one than the other), `noise` where the interval holds 0, `unknown` without one."""
        low, high = self.estimate.low, self.estimate.high
        if np.isnan(low):
            return "unknown"
        if low <= 0 <= high:
            return "noise"
        return "better" if (high < 0) == (self.metric in LOWER_IS_BETTER) else "worse"


def sums_of(by_sample: pd.DataFrame, split: str) -> pd.DataFrame:
    """Add up the mask ratios of `by_sample.parquet` for one split: what `Run` takes.

    A baseline, whose head is null as it is the same for both, gets rows for each head.
    """
    rows = by_sample[by_sample["split"] == split]
    baselines = rows["head"].isna()
    heads = rows.loc[~baselines, "head"].unique()
    parts = [rows[~baselines], *(rows[baselines].assign(head=head) for head in heads)]
    return pd.concat(parts).groupby(_LABELS, sort=True, observed=True)[list(COLUMNS)].sum()


def groups_of(runs: Sequence[Run]) -> list[Group]:
    """Gather the runs that differ in `train.seed` alone, in the order of their first ones.

    A run that repeats another one, its seed included, tells nothing of seeds: it begins a group of its own.
    """
    found: dict[tuple, list[Run]] = {}
    for run in runs:
        same = repr(sorted((key, repr(value)) for key, value in run.settings.items() if key != SEED))
        seed, copy = run.settings.get(SEED), 0
        while any(other.settings.get(SEED) == seed for other in found.get((same, copy), [])):
            copy += 1
        found.setdefault((same, copy), []).append(run)
    return [Group(_name(members), tuple(members)) for members in found.values()]


def _name(runs: Sequence[Run]) -> str:
    """The run's name; for several what their names begin with, the seed's key left out."""
    if len(runs) == 1:
        return runs[0].name
    first, last = min(run.name for run in runs), max(run.name for run in runs)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    stem = _SEED_AT_END.sub("", first[:same]).rstrip("-_. /")
    return f"{stem or runs[0].name} ({len(runs)} seeds)"


def differing(groups: Sequence[Group]) -> list[str]:
    """The settings that are not the same in all groups, sorted."""
    keys = sorted({key for group in groups for key in group.settings})
    return [key for key in keys if len({repr(group.settings.get(key)) for group in groups}) > 1]


def common_samples(groups: Sequence[Group], head: str, predictor: str = "model") -> list[str]:
    """Held-out samples with hidden values in every run of every group, sorted."""
    sets = [set(run.of(head, predictor).index) for group in groups for run in group.runs]
    return sorted(set.intersection(*sets)) if sets else []


def same_values(groups: Sequence[Group], head: str) -> bool:
    """Whether all runs were asked for the same hidden values of the same samples, as far as their sums tell."""
    runs = [run for group in groups for run in group.runs]
    first = runs[0].of(head)
    return all(
        run.of(head).index.equals(first.index)
        and np.allclose(run.of(head).to_numpy()[:, _TARGETS], first.to_numpy()[:, _TARGETS], rtol=1e-6)
        for run in runs[1:]
    )


def seed_noise(groups: Sequence[Group], head: str, metric: str) -> SeedNoise:
    """Pool the variance between the runs of each group, as an analysis of variance does.

    Each group's runs are taken over the group's own samples.
    """
    squares, freedom = 0.0, 0
    for group in groups:
        values = [float(METRICS[metric](run.of(head).to_numpy().sum(axis=0))) for run in group.runs]
        squares += float(np.square(np.array(values) - np.mean(values)).sum())
        freedom += len(values) - 1
    return SeedNoise(squares / freedom if freedom else float("nan"), freedom)


def estimate(
    group: Group,
    head: str,
    metric: str,
    noise: SeedNoise,
    *,
    predictor: str = "model",
    samples: Sequence[str] | None = None,
) -> Estimate:
    """A metric of one group over its seeds, on the given samples (None: all that it was measured on)."""
    chosen = common_samples([group], head, predictor) if samples is None else list(samples)
    value, drawn = _mean_over_seeds(group, head, metric, predictor, chosen)
    seeds = 1 / len(group.runs) if predictor == "model" else 0.0
    return _with_interval(value, drawn, seeds, noise, len(chosen))


def difference(one: Group, other: Group, head: str, metric: str, noise: SeedNoise) -> Difference:
    """Compare two groups, paired: on the samples that both were measured on, drawn anew alike for both.

    Parameters
    ----------
    one, other
        The groups.
    head, metric
        `gep` or `gepc`, and a name of `scores.METRICS`.
    noise
        Of `seed_noise` over all groups at hand; without repeated seeds the interval is over samples alone.
    """
    samples = common_samples([one, other], head)
    (a, drawn_a), (b, drawn_b) = (_mean_over_seeds(group, head, metric, "model", samples) for group in (one, other))
    seeds = 1 / len(one.runs) + 1 / len(other.runs)
    found = _with_interval(a - b, drawn_a - drawn_b, seeds, noise, len(samples))
    return Difference(one.name, other.name, head, metric, found, same_values([one, other], head))


def all_differences(groups: Sequence[Group], head: str, metric: str) -> list[Difference]:
    """Each two groups, the better one first; the largest lead first within its pairs' order."""
    noise = seed_noise(groups, head, metric)
    order = ranked(groups, head, metric)
    return [difference(order[i], b, head, metric, noise) for i in range(len(order)) for b in order[i + 1 :]]


def ranked(groups: Sequence[Group], head: str, metric: str) -> list[Group]:
    """The groups from the best to the worst in one metric, each over its own samples."""
    none = SeedNoise(float("nan"), 0)
    sign = 1 if metric in LOWER_IS_BETTER else -1
    return sorted(groups, key=lambda group: sign * estimate(group, head, metric, none).value)


def _mean_over_seeds(
    group: Group, head: str, metric: str, predictor: str, samples: Sequence[str]
) -> tuple[float, np.ndarray]:
    """Mean of a metric over the group's runs, and the same for each draw of samples, float64 (draws,) or (0,)."""
    sums = [run.of(head, predictor).reindex(samples).to_numpy() for run in group.runs]
    function = METRICS[metric]
    value = float(np.mean([function(one.sum(axis=0)) for one in sums])) if len(samples) else float("nan")
    return value, np.mean([function(resample(one)) for one in sums], axis=0)


def _with_interval(value: float, drawn: np.ndarray, seeds: float, noise: SeedNoise, n_samples: int) -> Estimate:
    """Put a 95 % interval around a value.

    Over samples alone it is the bootstrap's percentiles. Where seeds were repeated, the variances over samples (of the
    bootstrap) and over seeds (`seeds` times the pooled one) add up, and the quantile is Student's with the degrees of
    freedom of Welch (1947) and Satterthwaite (1946).
    """
    by_samples, by_seeds = n_samples >= MIN_SAMPLES, noise.freedom > 0 and seeds > 0
    if not by_seeds:
        return Estimate(value, *quantiles(drawn), "samples" if by_samples else "", n_samples)
    from scipy.stats import t

    parts = [(seeds * noise.variance, noise.freedom)]
    parts += [(float(np.var(drawn, ddof=1)), n_samples - 1)] if by_samples else []
    total = sum(variance for variance, _ in parts)
    below = sum(variance**2 / freedom for variance, freedom in parts)
    half = float(t.ppf(0.975, total**2 / below) * np.sqrt(total)) if below > 0 else 0.0
    return Estimate(value, value - half, value + half, "samples and seeds" if by_samples else "seeds", n_samples)
