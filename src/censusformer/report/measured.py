"""What the sections about the model say: what was trained, its errors beside the baselines', its curves."""

import numpy as np
import pandas as pd

from censusformer.report import tables
from censusformer.report.findings import HEAD_NAMES, LABELS, NAMES, Duel, count, duration, percent
from censusformer.report.run import Run, find
from censusformer.report.shown import Cell, Row, Table, row, table
from censusformer.report.tables import BASELINES, HEADS

METRICS = {
    "mse": "MSE (bins²)",
    "mae": "MAE (bins)",
    "r2": "R²",
    "spearman_cell": "Spearman within cells",
    "spearman_gene": "Spearman within genes",
    "reducible_removed": "Reducible error removed",
}
SPLIT_TITLES = {"test": "Held-out test samples", "valid": "Validation cells (their samples were trained on)"}


def trained(run: Run) -> str:
    """What was trained on what, in two sentences."""
    train, test = (run.samples[run.samples["status"] == status] for status in ("train", "test"))
    size = find(run.args, "total")
    size = f" and {size:,} parameters" if isinstance(size, int) else ""
    layers, width = find(run.args, "n_layers"), find(run.args, "d_model")
    model = f"A transformer of {layers} layers of width {width}{size}" if layers and width else "A transformer"
    epochs = int(run.metrics["epoch"].max())
    text = (
        f"{model} was pretrained for {count(epochs, 'epoch')} on {count(run.tokens['train'].n_cells, 'cell')} of "
        f"{count(len(train), 'sample')} from {count(train['dataset_id'].nunique(), 'data set')} of {_census(run)}, "
        f"with a vocabulary of {count(run.n_genes, 'gene')}."
    )
    if not len(test):
        return text
    unseen = len(set(test["dataset_id"]) - set(train["dataset_id"]))
    unseen = f" ({count(unseen, 'data set')} of these never seen in training)" if unseen else ""
    return (
        f"{text} It was then tested on {count(run.tokens['test'].n_cells, 'cell')} of {count(len(test), 'sample')} "
        f"from {count(test['dataset_id'].nunique(), 'data set')}{unseen}, held out by person."
    )


def _census(run: Run) -> str:
    """Where the cells come from: a release of the Census, the demo, one's own files, or another census."""
    census, settings = run.provenance.get("census", {}), run.setting("census.h5ad")
    if census.get("version"):
        return f"the CELLxGENE Census of {census['version']}"
    if run.setting("census.uri") == "census.uri: demo" or str(census.get("uri", "")).endswith("census/demo"):
        return "the demo census"
    own = settings not in ("census.h5ad", "census.h5ad: null") or "census/h5ad/" in str(census.get("uri", ""))
    return "your own files" if own else "another census"


def duel_table(found: list[Duel]) -> Table:
    """The model beside each baseline: by how much its error is lower or higher, for each head."""
    heads = [head for head in HEADS if any(duel.head == head for duel in found)]
    by_key = {(duel.baseline, duel.head): duel for duel in found}
    first = {duel.head: duel for duel in found}
    rows = [row("Model's error", *(f"{first[head].model:.1f}" for head in heads), kind="model")]
    for baseline in sorted({duel.baseline for duel in found}, key=BASELINES.index):
        here = [by_key.get((baseline, head)) for head in heads]
        errors = {f"{duel.other:.1f}" for duel in here if duel is not None}
        rows.append(row(f"against {NAMES[baseline]} ({' and '.join(sorted(errors))})", *map(_duel_cell, here)))
    mean = [by_key.get(("gene_mean", head)) for head in heads]
    if all(duel is not None and np.isfinite(duel.floor) for duel in mean):
        rows.append(row("Reducible error of the gene mean removed", *(percent(duel.removed) for duel in mean)))
    return table([("", "name"), *((HEAD_NAMES[head], "n") for head in heads)], rows)


def _duel_cell(duel: Duel | None) -> Cell | None:
    if duel is None:
        return None
    word = ("lower" if duel.wins else "higher") + (", uncertain" if duel.uncertain else "")
    kind = ("win" if duel.wins else "loss") if duel.certain else ""
    return Cell(f"{percent(abs(duel.gain))} {word}", kind)


def parts_of(reconstruction: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Split the evaluation's rows by what is measured on, with titles.

    All held-out samples first, then those of seen and of unseen data sets where there are any of the latter; validation
    cells last.
    """
    found = []
    test = reconstruction[reconstruction["split"] == "test"]
    if len(test):
        found.append((SPLIT_TITLES["test"], test))
    if tables.is_seen(test, seen=False).any():
        found += [
            (f"Held-out test samples of data sets {name} in training", test[tables.is_seen(test, seen)])
            for name, seen in (("seen", True), ("not seen", False)) if tables.is_seen(test, seen).any()
        ]  # fmt: skip
    return [*found, (SPLIT_TITLES["valid"], reconstruction[reconstruction["split"] == "valid"])]


def error_tables(run: Run) -> list[tuple[str, Table, Table]]:
    """For each part its title, the errors by mask ratio, and all measures."""
    found = []
    for title, rows in parts_of(run.reconstruction):
        errors = tables.errors(rows, rows["split"].iloc[0])
        found.append((f"{title}: {_masked(errors)}", error_table(errors), measure_table(rows)))
    return found


def _masked(errors: pd.DataFrame) -> str:
    return f"{int(errors.loc[errors['mask_ratio'].isna(), 'n'].max()):,} hidden values"


def error_table(errors: pd.DataFrame) -> Table:
    """Errors with a row for each predictor and a column for each mask ratio; the best of a column is marked."""
    wide = tables.wide(errors)
    best = wide[wide.index.get_level_values("predictor") != "tie_floor"].min()
    names = ["all" if np.isinf(ratio) else f"{100 * ratio:g}\u00a0%" for ratio in wide.columns]
    pooled = errors[errors["mask_ratio"].isna()]
    known = pooled["low"].notna().any()
    columns = [("Error (bins²) by hidden share", "name"), *((name, "n") for name in names)]
    columns += [("95\u00a0% interval of all", "n")] if known else []
    further = [_interval_of(pooled, key) if known else [] for key in wide.index]
    rows = [_error_row(key, wide.loc[key], best, more) for key, more in zip(wide.index, further, strict=True)]
    return table(columns, rows, shown=20)


def _interval_of(pooled: pd.DataFrame, key: tuple[str, str]) -> list[str]:
    predictor, head = key
    rows = pooled[(pooled["predictor"] == predictor) & ((pooled["head"] == head) | (head == ""))]
    return [interval(rows["low"].iloc[0], rows["high"].iloc[0])]


def interval(low: float, high: float) -> str:
    """Write `104.2 to 110.1`; a dash where there is no interval."""
    return f"{low:.1f} to {high:.1f}" if np.isfinite(low) else "-"


def _error_row(key: tuple[str, str], values: pd.Series, best: pd.Series, further: list[str]) -> Row:
    predictor, head = key
    cells = (Cell(f"{value:.1f}", "best" if value == best[column] else "") for column, value in values.items())
    kind = {"model": f"model {head}", "tie_floor": "floor"}.get(predictor, "")
    return row(_predictor(predictor, head), *cells, *further, kind=kind)


def _predictor(predictor: str, head: str) -> str:
    return " ".join(filter(None, [LABELS.get(predictor, predictor), HEAD_NAMES.get(head, head)]))


def measure_table(rows: pd.DataFrame) -> Table:
    """All measures of one part: a row for each predictor and mask ratio (`all`: each hidden value counts alike).

    A baseline, which is the same for both heads, stands once; `spearman_gene` is measured by ratio alone.
    """
    wide = _wide_measures(rows)
    metrics = [metric for metric in METRICS if metric in wide]
    columns = [("Predictor", "name"), ("Hidden", "n"), *((METRICS[metric], "n") for metric in metrics)]
    shown = (
        row(_predictor(predictor, head), "all" if np.isinf(ratio) else f"{100 * ratio:g}\u00a0%",
            *(_measure(metric, values[metric]) for metric in metrics), kind=f"model {head}" if head else "")
        for (predictor, head, ratio), values in wide.iterrows()
    )  # fmt: skip
    return table(columns, shown, shown=60)


def _wide_measures(rows: pd.DataFrame) -> pd.DataFrame:
    """Index predictor, head ('' for baselines), mask ratio (inf: all), columns metrics; the model first."""
    if rows["seen_dataset"].isna().any():
        rows = rows[rows["seen_dataset"].isna()]
    first = rows["head"].iloc[0]
    rows = rows[((rows["predictor"] == "model") | (rows["head"] == first)) & (rows["predictor"] != "tie_floor")]
    rows = rows.assign(head=rows["head"].where(rows["predictor"] == "model", ""),
                       mask_ratio=rows["mask_ratio"].fillna(np.inf))  # fmt: skip
    wide = rows.pivot_table(index=["predictor", "head", "mask_ratio"], columns="metric", values="value")
    order = {name: place for place, name in enumerate(("model", *BASELINES[::-1]))}
    return wide.sort_index(key=lambda level: level.map(order) if level.name == "predictor" else level)


def _measure(metric: str, value: float) -> str | None:
    if np.isnan(value):
        return None
    return f"{value:.1f}" if metric == "mse" else f"{round(value, 3) + 0.0:.3f}"  # no -0.000


def curves(metrics: pd.DataFrame) -> pd.DataFrame:
    """Rows of `metrics.csv` over all mask ratios, with `window` (whether a row is a part of an epoch) and `at`.

    `at` is where a row stands in epochs, by its step: windows lie between whole numbers.
    """
    rows = metrics[metrics["mask_ratio"].isna()]
    done = rows[rows["epoch"] > 0]
    steps_per_epoch = float((done["step"] / done["epoch"]).max()) if len(done) else 1.0
    return rows.assign(window=rows["span"] == "window", at=rows["step"] / steps_per_epoch)


def training(run: Run) -> str:
    """Epochs, the best one, and the gap between training and validation there."""
    rows = curves(run.metrics)
    rows = rows[~rows["window"]]
    sums = rows[(rows["head"] == "sum") & (rows["split"] == "valid")].sort_values("epoch")
    if sums.empty:
        return "Nothing was measured on validation cells during training."
    best = sums.loc[sums["mse"].idxmin()]
    fixed = rows[(rows["head"] == "sum") & (rows["split"] == "train_fixed") & (rows["epoch"] == best["epoch"])]["mse"]
    text = (
        f"best_model.pt is epoch {best['epoch']:g} of {sums['epoch'].max():g}, where the sum of GEP and GEPC on "
        f"validation cells is lowest: {best['mse']:.1f}"
    )
    if len(fixed):
        text += f", against {fixed.iloc[0]:.1f} on fixed training cells"
    speed, device = find(run.args, "cells_per_second"), find(run.args, "device")
    speed = f", {speed:,.0f} cells a second while training" if isinstance(speed, int | float) else ""
    took = duration(float(run.metrics["seconds"].max()))
    return f"{text}. Training took {took}{f' on {device}' if device else ''}{speed}."


def epoch_table(metrics: pd.DataFrame) -> Table:
    """Losses by epoch."""
    rows = metrics[~metrics["window"]]
    wide = rows.pivot_table(index="epoch", columns=["split", "head"], values="mse", aggfunc="last")
    keys = [
        (split, head)
        for split in ("train", "train_fixed", "valid")
        for head in (*HEADS, "sum")[: 3 if split == "valid" else 2]
        if (split, head) in wide
    ]
    names = {"train": "Training", "train_fixed": "Fixed training cells", "valid": "Validation"}
    columns = [("Epoch", "n"), *((f"{names[split]} {HEAD_NAMES.get(head, head)}", "n") for split, head in keys)]
    shown = (
        row(f"{epoch:g}", *(None if np.isnan(v) else f"{v:.1f}" for v in values[keys]))
        for epoch, values in wide.iterrows()
    )
    return table(columns, shown)
