"""The published run's own figures, by its own definitions, beside this run's."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from censusformer.report.findings import percent
from censusformer.report.run import Run
from censusformer.report.shown import Table, row, table
from censusformer.report.tables import errors

# The log of sun770311/scGPT-pretrain: six epochs on 290,933 blood cells, validation on 8,998 cells of the same donors.
PUBLISHED = {
    ("train", "gep"): (132.8, 109.3),
    ("train", "gepc"): (134.1, 110.3),
    ("train", "sum"): (266.9, 219.6),
    ("window", "gep"): (503.6, 101.6),
    ("valid", "gep"): (128.59, 120.06),
}
NAMES = {
    ("train", "gep"): "Training GEP, mean of an epoch's windows",
    ("train", "gepc"): "Training GEPC, mean of an epoch's windows",
    ("train", "sum"): "Training GEP + GEPC, mean of an epoch's windows",
    ("window", "gep"): "Training GEP, first and last window of the run",
    ("valid", "gep"): "Validation GEP, once an epoch",
}


@dataclass(frozen=True)
class Change:
    """A figure at the first and at the last epoch."""

    first: float
    last: float

    @property
    def share(self) -> float:
        """By how much it changed, as a share of the first; negative where it fell."""
        return self.last / self.first - 1


def changes(metrics: pd.DataFrame) -> dict[tuple[str, str], Change]:
    """Find this run's figures by the published run's definitions, as far as there are any.

    Training: the mean of the batches' losses over an epoch (its windows are means over the same number of batches, so
    their mean is the same), with dropout, in bins². Validation: GEP at the end of an epoch, at half of the genes masked
    (the published ratio) where that was measured, else over all ratios.

    Parameters
    ----------
    metrics
        `metrics.csv`, with its column `span`.
    """
    half = metrics["mask_ratio"] == 0.5
    rows = {
        "train": metrics[(metrics["split"] == "train") & (metrics["span"] == "epoch") & metrics["mask_ratio"].isna()],
        "window": metrics[(metrics["split"] == "train") & (metrics["span"] == "window")],
        "valid": metrics[(metrics["split"] == "valid") & (half if half.any() else metrics["mask_ratio"].isna())],
    }
    found = {}
    for kind, head in PUBLISHED:
        part = rows[kind]
        part = part[(part["head"] == head) & (part["epoch"] > 0)].sort_values("step", kind="stable")["mse"]
        if len(part):
            found[kind, head] = Change(float(part.iloc[0]), float(part.iloc[-1]))
    return found


def reference_table(run: Run) -> Table:
    """Both runs' figures at the first and the last epoch, and their changes."""
    here = changes(run.metrics)
    columns = [("Figure (bins²)", "name"), ("This run: first", "n"), ("last", "n"), ("change", "n"),
               ("Published: first", "n"), ("last", "n"), ("change", "n")]  # fmt: skip
    rows = (
        row(NAMES[key], *_three(here.get(key)), *_three(Change(*published))) for key, published in PUBLISHED.items()
    )
    return table(columns, rows)


def _three(change: Change | None) -> tuple[str | None, ...]:
    if change is None:
        return None, None, None
    sign = "\u2212" if change.share < 0 else "+"
    return f"{change.first:.1f}", f"{change.last:.1f}", f"{sign}{percent(abs(change.share))}"


def reference_text(run: Run) -> str:
    """What the comparison can say, and what it cannot."""
    epochs = int(run.metrics["epoch"].max())
    lines = errors(run.reconstruction, "valid")
    lines = lines[lines["mask_ratio"].isna()].set_index(["head", "predictor"])["mse"]
    text = (
        f"The published run's log, by its own definitions, beside this run's: epoch 1 and epoch {epochs} here, 1 and 6 "
        "there. The cells, their depth, genes and ties differ, so the levels are no race; and a fall of the training "
        "error from its first windows is mostly the distance from knowing nothing."
    )
    known = [lines.get(("gep", name), np.nan) for name in ("constant", "gene_mean")]
    if np.isfinite(known).all():
        text += (
            f" On this run's validation cells a constant stands at {known[0]:.1f} and the mean of each gene at "
            f"{known[1]:.1f}: a fall from there to here by {percent(1 - known[1] / known[0])} takes no model."
        )
    return f"{text} Both measure validation on cells of donors that were trained on; held-out samples stand above."
