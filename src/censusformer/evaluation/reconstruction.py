"""The table of reconstruction: a model and its baselines, for each split, mask ratio and head."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from censusformer.evaluation.masked import MaskedCells
from censusformer.evaluation.scores import COLUMNS as SUMS
from censusformer.evaluation.scores import (
    METRICS,
    counted,
    interval,
    mse,
    quantiles,
    resample,
    spearman_gene,
    sums_by_sample,
    tie_floor,
)

HEADS = ("gep", "gepc")
BASELINES = ("constant", "gene_mean", "gene_mean_shift", "gene_dataset_mean", "ridge")
COLUMNS = ("split", "seen_dataset", "mask_ratio", "head", "predictor", "metric", "value", "low", "high", "n")

Key = tuple[str | None, str]  # head and predictor; head None: the same for both
Predictions = Mapping[Key, np.ndarray]  # (M,) each
Score = tuple[str, str, float, float, float, int]  # predictor, metric, value, low, high, n
Groups = Sequence[tuple[bool | None, np.ndarray]]  # seen_dataset and the samples that count, bool (n_samples,)


@dataclass(frozen=True)
class Labels:
    """What is known of the n cells of a split beside their tokens.

    Parameters
    ----------
    sample
        int (n,): 0..n_samples-1.
    seen
        bool (n_samples,): whether a sample's data set has training samples.
    tie_var
        float (n,): the variance of the draws among tied bins, mean over a cell's tokens.
    """

    sample: np.ndarray
    seen: np.ndarray
    tie_var: np.ndarray

    def groups(self) -> Groups:
        """Samples of seen, of unseen data sets, and where there are both of all together (None)."""
        present = np.bincount(self.sample, minlength=len(self.seen)) > 0
        parts = [(value, present & (self.seen == value)) for value in (True, False)]
        parts = [(value, chosen) for value, chosen in parts if chosen.any()]
        return [*parts, (None, present)] if len(parts) > 1 else parts


@dataclass(frozen=True)
class Measured:
    """The scores of one split at one mask ratio.

    Parameters
    ----------
    mask_ratio
        The share of a cell's genes that was masked.
    sums
        By (head, predictor): float64 (n_samples, 9), see `scores.sums_by_sample`.
    by_gene
        By (head, predictor, seen_dataset): mean correlation within genes, and the number of genes.
    """

    mask_ratio: float
    sums: dict[Key, np.ndarray]
    by_gene: dict[tuple[str | None, str, bool | None], tuple[float, int]]


def measure(cells: MaskedCells, labels: Labels, predictions: Predictions, mask_ratio: float) -> Measured:
    """Score predictions; those of `gene_mean` must be among them."""
    gene_mean = predictions[None, "gene_mean"]
    sums, by_gene = {}, {}
    for key, predicted in predictions.items():
        sums[key] = sums_by_sample(
            predicted,
            cells.target,
            cells.target_cell,
            gene_mean=gene_mean,
            tie_var=labels.tie_var,
            sample=labels.sample,
            n_samples=len(labels.seen),
        )
        for seen, chosen in labels.groups():
            here = chosen[labels.sample[cells.target_cell]]
            by_gene[*key, seen] = spearman_gene(predicted[here], cells.target[here], cells.target_gene[here])
    return Measured(mask_ratio, sums, by_gene)


def table(split: str, measured: Sequence[Measured], groups: Groups) -> pd.DataFrame:
    """Lay the scores of one split out, long; a baseline has a row for each head.

    Rows with mask_ratio null are over all ratios, those with seen_dataset null over seen and unseen data sets: each
    masked position counts alike. `spearman_gene` has no rows over all ratios.
    """
    rows = []
    for seen, chosen in groups:
        for part in [*measured, Measured(float("nan"), _over_all(measured), {})]:
            for (head, predictor), sums in part.sums.items():
                scores = [*_scores(sums[chosen], predictor), *_by_gene(part, head, predictor, seen)]
                heads = [head] if head else HEADS
                rows += [(split, seen, part.mask_ratio, name, *score) for name in heads for score in scores]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.astype({"seen_dataset": "boolean", "n": "int64"})


def by_sample(split: str, measured: Sequence[Measured], labels: Labels, samples: Sequence[str]) -> pd.DataFrame:
    """Lay out what the metrics of one split are made of, so that models can be compared sample by sample.

    Parameters
    ----------
    samples
        The names of the samples, as `labels.sample` numbers them.

    Returns
    -------
    split, sample, seen_dataset, mask_ratio, head (null for a baseline: the same for both heads), predictor, and the
    sums of `scores.COLUMNS`; samples of the split alone, in the order of their names.
    """
    names = np.array(samples, dtype=object)
    here = [i for i in np.argsort(names.astype(str), kind="stable") if (labels.sample == i).any()]
    parts = [
        pd.DataFrame(sums[here], columns=list(SUMS)).assign(
            split=split, sample=names[here], seen_dataset=labels.seen[here], mask_ratio=part.mask_ratio, head=head,
            predictor=predictor,
        )
        for part in measured for (head, predictor), sums in part.sums.items()
    ]  # fmt: skip
    table = pd.concat(parts, ignore_index=True).astype({"head": "object", "n": "int64", "n_rho": "int64"})
    return table[["split", "sample", "seen_dataset", "mask_ratio", "head", "predictor", *SUMS]]


def _over_all(measured: Sequence[Measured]) -> dict[Key, np.ndarray]:
    """Add the sums of all mask ratios up."""
    return {key: np.sum([part.sums[key] for part in measured], axis=0) for key in measured[0].sums}


def _scores(sums: np.ndarray, predictor: str) -> Iterator[Score]:
    """Score one predictor; the floor comes with the per-gene mean, once."""
    total, resampled = sums.sum(axis=0), resample(sums)
    for metric, function in METRICS.items():
        yield predictor, metric, float(function(total)), *interval(resampled, function), counted(metric, sums)
    if predictor == "gene_mean":
        yield "tie_floor", "mse", float(tie_floor(total)), *interval(resampled, tie_floor), counted("mse", sums)


def _by_gene(part: Measured, head: str | None, predictor: str, seen: bool | None) -> list[Score]:
    if (head, predictor, seen) not in part.by_gene:
        return []
    value, n = part.by_gene[head, predictor, seen]
    return [(predictor, "spearman_gene", value, float("nan"), float("nan"), n)]


def summary(frame: pd.DataFrame, split: str, measured: Sequence[Measured]) -> dict[str, Any]:
    """Say for each head whether the model's error is below each baseline's, over all ratios and data sets of a split.

    Parameters
    ----------
    frame, split, measured
        What `table` gives, and for which split and scores.

    Returns
    -------
    By head: `model` (mse, low, high, spearman_cell, reducible_removed), `tie_floor`, `n`, `beats_all`, and by baseline
    `mse`, `difference` (the baseline's error less the model's, bins²) with `low` and `high` (both on the same drawn
    samples), `relative` (the difference over the baseline's error) and `beats`. Null stands for what is not defined.
    """
    rows = frame[(frame["split"] == split) & frame["mask_ratio"].isna()]
    if rows["seen_dataset"].isna().any():
        rows = rows[rows["seen_dataset"].isna()]
    resampled = {key: resample(sums) for key, sums in _over_all(measured).items()}
    return {
        head: _head_summary(rows[rows["head"] == head].set_index(["predictor", "metric"]), head, resampled)
        for head in HEADS
    }


def _head_summary(rows: pd.DataFrame, head: str, resampled: Mapping[Key, np.ndarray]) -> dict[str, Any]:
    model = rows.loc[("model", "mse")]
    baselines = {name: _duel(rows, head, name, resampled) for name in BASELINES}
    return {
        "model": {
            "mse": float(model["value"]),
            "low": _number(model["low"]),
            "high": _number(model["high"]),
            "spearman_cell": _number(rows.loc[("model", "spearman_cell"), "value"]),
            "reducible_removed": _number(rows.loc[("model", "reducible_removed"), "value"]),
        },
        "tie_floor": float(rows.loc[("tie_floor", "mse"), "value"]),
        "n": int(model["n"]),
        "beats_all": all(other["beats"] for other in baselines.values()),
        "baselines": baselines,
    }


def _duel(rows: pd.DataFrame, head: str, baseline: str, resampled: Mapping[Key, np.ndarray]) -> dict[str, Any]:
    error, other = (float(rows.loc[(name, "mse"), "value"]) for name in ("model", baseline))
    pair = resampled[None, baseline], resampled[head, "model"]
    low, high = quantiles(mse(pair[0]) - mse(pair[1]))
    return {
        "mse": other,
        "difference": other - error,
        "low": _number(low),
        "high": _number(high),
        "relative": 1 - error / other,
        "beats": error < other,
    }


def _number(value: float) -> float | None:
    """Turn NaN into null: JSON has none."""
    return None if np.isnan(value) else float(value)
