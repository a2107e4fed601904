"""What the sections about the model say: what was trained, its errors beside the baselines', its curves."""

import numpy as np
import pandas as pd

from censusformer.report import tables
from censusformer.report.findings import HEAD_NAMES, LABELS, NAMES, Duel, count, duration, percent
from censusformer.report.run import Run, find
from censusformer.report.shown import Cell, Row, Table, row, table
from censusformer.report.tables import BASELINES, HEADS

METRICS = {
    "mae": "MAE (bins)",
    "r2": "R²",
    "spearman_cell": "Spearman within cells",
    "spearman_gene": "Spearman within genes",
}


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
        f"{count(len(train), 'sample')} from {count(train['dataset_id'].nunique(), 'data set')}, with a vocabulary of "
        f"{count(run.n_genes, 'gene')}."
    )
    if not len(test):
        return text
    unseen = len(set(test["dataset_id"]) - set(train["dataset_id"]))
    unseen = f" ({count(unseen, 'data set')} of these never seen in training)" if unseen else ""
    return (
        f"{text} It was then tested on {count(run.tokens['test'].n_cells, 'cell')} of {count(len(test), 'sample')} "
        f"from {count(test['dataset_id'].nunique(), 'data set')}{unseen}, held out by person."
    )


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


def error_tables(run: Run) -> list[tuple[str, Table]]:
    """The evaluation's table, by split: held-out samples first, unseen data sets apart where there are some."""
    rows = run.reconstruction
    found = []
    test = rows[rows["split"] == "test"]
    if len(test):
        found.append(("Held-out test samples", tables.errors(rows, "test")))
    if tables.is_seen(test, seen=False).any():
        found += [
            (f"Held-out test samples of data sets {name} in training", tables.errors(test, "test", seen))
            for name, seen in (("seen", True), ("not seen", False)) if tables.is_seen(test, seen).any()
        ]  # fmt: skip
    found.append(("Validation cells (their samples were trained on)", tables.errors(rows, "valid")))
    return [(f"{title}: {_masked(part)}", error_table(tables.wide(part))) for title, part in found]


def _masked(errors: pd.DataFrame) -> str:
    return f"{int(errors.loc[errors['mask_ratio'].isna(), 'n'].max()):,} hidden values"


def error_table(wide: pd.DataFrame) -> Table:
    """Errors with a row for each predictor and a column for each mask ratio; the best of a column is marked."""
    predictors = wide.index.get_level_values("predictor")
    best = wide[predictors != "tie_floor"].min()
    names = ["all" if np.isinf(ratio) else f"{100 * ratio:g}\u00a0%" for ratio in wide.columns]
    rows = [_error_row(key, values, best) for key, values in wide.iterrows()]
    return table([("Error (bins²) by hidden share", "name"), *((name, "n") for name in names)], rows, shown=20)


def _error_row(key: tuple[str, str], values: pd.Series, best: pd.Series) -> Row:
    predictor, head = key
    name = " ".join(filter(None, [LABELS.get(predictor, predictor), HEAD_NAMES.get(head, head)]))
    cells = (Cell(f"{value:.1f}", "best" if value == best[column] else "") for column, value in values.items())
    kind = {"model": f"model {head}", "tie_floor": "floor"}.get(predictor, "")
    return row(name, *cells, kind=kind)


def other_metrics(run: Run) -> Table | None:
    """The other measures that the evaluation gives, pooled over ratios and data sets; None where it gives none."""
    rows = run.reconstruction
    splits = [split for split in ("test", "valid") if (rows["split"] == split).any()]
    parts = [
        tables.overall(rows, split, metric).assign(split=split, metric=metric) for split in splits for metric in METRICS
    ]
    scores = pd.concat(parts)
    if scores["value"].isna().all():
        return None
    metrics = [metric for metric in METRICS if (scores["metric"] == metric).any()]
    wide = scores.pivot_table(index=["split", "predictor", "head"], columns="metric", values="value")[metrics]
    columns = [("Split", "name"), ("Predictor", "name"), *((METRICS[metric], "n") for metric in metrics)]
    shown = (
        row(split, f"{LABELS.get(predictor, predictor)} {HEAD_NAMES.get(head, head)}",
            *(None if np.isnan(value) else f"{value:.3f}" for value in values))
        for (split, predictor, head), values in wide.iterrows()
    )  # fmt: skip
    return table(columns, shown, shown=40)


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
