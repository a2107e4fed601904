"""The numbers of the page: pure functions from the pipeline's tables to what is shown."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

BASELINES = ("constant", "gene_mean", "gene_mean_shift", "gene_dataset_mean", "ridge")
HEADS = ("gep", "gepc")
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Stage:
    """What is left of cells or genes after one step of the funnel, what the step asks for, and a CSS class."""

    name: str
    n: int
    rule: str
    kind: str = ""


@dataclass(frozen=True)
class SplitTokens:
    """The tokens of one split.

    Parameters
    ----------
    n_cells, n_tokens
        Of the whole split, as `shards.json` counts them.
    lengths
        int64 (k,): tokens of the k cells that were read for the figures, `<cls>` not counted.
    bins
        int64 (n_bins,): how often each bin stands in them.
    genes
        int64 (n_genes,): in how many of these cells each gene is a token.
    tie_var
        The variance that the draw among tied bins puts on a token, mean over those tokens, in bins squared.
    """

    n_cells: int
    n_tokens: int
    lengths: np.ndarray
    bins: np.ndarray
    genes: np.ndarray
    tie_var: float


def by_reason(samples: pd.DataFrame) -> pd.DataFrame:
    """Samples and cells by status and reason, chosen ones first, then by the number of cells.

    Parameters
    ----------
    samples
        `samples.parquet`: status, reason, n_cells.

    Returns
    -------
    Columns status, reason, n_samples, n_cells.
    """
    reason = samples["reason"].fillna("").where(samples["status"] == "out", "")
    groups = samples.assign(reason=reason).groupby(["status", "reason"], observed=True, sort=True)["n_cells"]
    table = groups.agg(n_samples="size", n_cells="sum").reset_index()
    rank = table["status"].map({"train": 0, "test": 1, "out": 2})
    order = np.lexsort((table["reason"], -table["n_cells"], rank))
    return table.iloc[order].reset_index(drop=True)


def qc_by_sample(cells: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """Per chosen sample: cells before and after the cell filter, and quantiles of counts and genes a cell.

    Parameters
    ----------
    cells
        Kept cells: sample, n_counts, n_genes.
    samples
        `samples.parquet`.

    Returns
    -------
    Columns sample, dataset_id, status, n_cells, n_kept, counts (median), genes_5, genes_25, genes, genes_75, genes_95;
    by data set, then by name.
    """
    groups = cells.groupby("sample", observed=True, sort=False)
    quantiles = groups["n_genes"].quantile([0.05, 0.25, 0.5, 0.75, 0.95]).unstack()  # noqa: PD010 - the values are a series
    quantiles.columns = ["genes_5", "genes_25", "genes", "genes_75", "genes_95"]
    chosen = samples.loc[samples["status"] != "out", ["sample", "dataset_id", "status", "n_cells"]]
    table = chosen.set_index("sample").join([groups.size().rename("n_kept"), groups["n_counts"].median(), quantiles])
    table = table.rename(columns={"n_counts": "counts"}).reset_index()
    table["n_kept"] = table["n_kept"].fillna(0).astype(int)
    return table.sort_values(["dataset_id", "sample"], kind="stable", ignore_index=True)


def membership(hvg: pd.DataFrame, samples: list[str]) -> np.ndarray:
    """Which genes each sample selected: bool (samples, genes), genes in no particular order.

    Parameters
    ----------
    hvg
        sample and feature_id, one row a selected gene; samples that are not asked for are left out.
    """
    row = pd.Index(samples).get_indexer(hvg["sample"])
    column, genes = pd.factorize(hvg["feature_id"], sort=True)
    table = np.zeros((len(samples), len(genes)), bool)
    table[row[row >= 0], column[row >= 0]] = True
    return table


def jaccard(table: np.ndarray) -> np.ndarray:
    """Shared genes over all genes of each two rows of a bool (samples, genes) table: float64 (samples, samples)."""
    ones = table.astype(np.float32)
    shared = (ones @ ones.T).astype(np.float64)
    size = shared.diagonal()
    union = size[:, None] + size[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def chance_jaccard(sizes: np.ndarray, n_genes: int) -> float:
    """Jaccard index of two lists of the mean size, each drawn at random from `n_genes` genes: shared = size^2 / n."""
    share = float(np.mean(sizes)) / n_genes
    return share / (2 - share)


def pairs(values: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each pair of a symmetric table once: those within a group, and those of two groups."""
    i, j = np.triu_indices(len(values), 1)
    same = groups[i] == groups[j]
    return values[i[same], j[same]], values[i[~same], j[~same]]


def errors(reconstruction: pd.DataFrame, split: str, seen: bool | None = None) -> pd.DataFrame:
    """Mean squared error by head, predictor and mask ratio, and pooled over the ratios.

    Ratios (and, where `seen` is None, seen and unseen data sets) are pooled by the number of masked positions, as the
    loss is; a bound of an interval survives only where nothing had to be pooled.

    Parameters
    ----------
    reconstruction
        `evaluation/reconstruction.parquet`, long.
    split
        `valid` or `test`.
    seen
        Only data sets that were (not) seen in training; None takes both.

    Returns
    -------
    Columns head, predictor, mask_ratio (NaN = all), mse, low, high, n.
    """
    rows = _of_split(reconstruction, "mse", split)
    rows = _pooled(rows, "seen_dataset", ["mask_ratio"]) if seen is None else rows[is_seen(rows, seen)]
    every = _pooled(rows, "mask_ratio", []).assign(mask_ratio=np.nan)
    table = pd.concat([rows[rows["mask_ratio"].notna()], every])
    columns = ["head", "predictor", "mask_ratio", "value", "low", "high", "n"]
    return table[columns].rename(columns={"value": "mse"}).reset_index(drop=True)


def overall(reconstruction: pd.DataFrame, split: str, metric: str) -> pd.DataFrame:
    """One metric of a split over all data sets and mask ratios: head, predictor, value."""
    rows = _pooled(_of_split(reconstruction, metric, split), "seen_dataset", ["mask_ratio"])
    return _pooled(rows, "mask_ratio", [])[["head", "predictor", "value"]]


def is_seen(rows: pd.DataFrame, seen: bool) -> pd.Series:
    """Whether a row is of data sets that training did (not) see alone."""
    return (rows["seen_dataset"] == seen).fillna(False).astype(bool)


def _of_split(reconstruction: pd.DataFrame, metric: str, split: str) -> pd.DataFrame:
    return reconstruction[(reconstruction["metric"] == metric) & (reconstruction["split"] == split)]


def _pooled(rows: pd.DataFrame, over: str, by: list[str]) -> pd.DataFrame:
    """Rows without `over`: those that the evaluation pooled itself, else the mean weighted by n."""
    if rows[over].isna().any():
        return rows[rows[over].isna()]
    keys = ["head", "predictor", *by]
    parts = rows.assign(weighted=rows["value"] * rows["n"]).groupby(keys, dropna=False, sort=True)
    table = parts.agg(weighted=("weighted", "sum"), n=("n", "sum"), k=("n", "size"), low=("low", "first"),
                      high=("high", "first")).reset_index()  # fmt: skip
    table["value"] = table["weighted"] / table["n"]
    table.loc[table["k"] > 1, ["low", "high"]] = np.nan
    return table


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """The table of `errors` as people read it: a row a predictor, a column a mask ratio, the pooled one last.

    A baseline with the same errors for both heads (all of them: the masks are the same) has one row, with head ''.
    Rows run from the highest pooled error to the lowest, the floor last.
    """
    keys = table.fillna({"mask_ratio": np.inf}).set_index(["predictor", "head", "mask_ratio"])["mse"]
    keys = keys.unstack()  # noqa: PD010 - the values are a series
    rows = []
    for predictor, part in keys.groupby(level="predictor", sort=False):
        same = predictor != "model" and len(part) > 1 and np.allclose(part, part.iloc[0], rtol=1e-9)
        rows += (
            [(predictor, "", part.iloc[0])] if same else [(predictor, head, row) for (_, head), row in part.iterrows()]
        )
    rows.sort(key=lambda row: (row[0] == "tie_floor", -row[2].iloc[-1], row[0], row[1]))
    index = pd.MultiIndex.from_tuples([row[:2] for row in rows], names=["predictor", "head"])
    return pd.DataFrame([row[2].to_numpy() for row in rows], index=index, columns=keys.columns)


def _total(values: pd.Series) -> float:
    """The sum, NaN where nothing was measured."""
    return values.sum(min_count=1)


def resources(benchmarks: pd.DataFrame) -> pd.DataFrame:
    """Per rule: jobs, wall time in all and of the longest job, CPU time, and the largest memory.

    Parameters
    ----------
    benchmarks
        One row a job: rule, s, cpu_time (seconds), max_rss (MB).

    Returns
    -------
    Columns rule, jobs, seconds, longest, cpu, memory; the rule that took longest first.
    """
    groups = benchmarks.groupby("rule", sort=True)
    table = groups.agg(jobs=("s", "size"), seconds=("s", "sum"), longest=("s", "max"), cpu=("cpu_time", _total),
                       memory=("max_rss", "max")).reset_index()  # fmt: skip
    return table.sort_values("seconds", ascending=False, kind="stable", ignore_index=True)
