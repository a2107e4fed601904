"""What the page says of embeddings: scores of cells by representation, and what the gene embedding knows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from censusformer.report.findings import count, listed
from censusformer.report.shown import Cell, Table, row, table

NAMES = {
    "model_cls": "Model, <cls>",
    "model_mean": "Model, mean of tokens",
    "pca": "HVG + PCA",
    "harmony": "PCA + Harmony",
    "scvi": "scVI",
    "gene_set": "Gene set without values",
    "untrained_cls": "Untrained encoder, <cls>",
    "untrained_mean": "Untrained encoder, mean",
    "majority": "Most frequent label",
}
BASELINES = ("pca", "harmony", "scvi", "gene_set", "untrained_cls", "untrained_mean")
CLASSIFIED = {
    "knn_accuracy": "kNN accuracy",
    "knn_macro_f1": "kNN macro-F1",
    "logistic_accuracy": "Logistic accuracy",
    "logistic_macro_f1": "Logistic macro-F1",
}
INTEGRATED = {
    "nmi": "NMI",
    "ari": "ARI",
    "silhouette_label": "Silhouette of types",
    "graph_connectivity": "Graph connectivity",
    "clisi": "cLISI",
    "silhouette_batch": "Silhouette of batches",
    "ilisi": "iLISI",
    "kbet": "kBET",
}
TASKS = {
    "held_out": "Persons never seen",
    "in_turn": "Each person in turn",
    "tells_sample": "Sample told",
    "tells_dataset": "Data set told",
}
VECTORS = {"model": "Model", "pca": "PCA of the same bins", "untrained": "Untrained"}
SHOWN_MARKERS = ("CD3D", "CD79A", "MS4A1", "NKG7", "LYZ", "S100A8", "FCER1A", "LILRA4", "PPBP", "HBB", "MZB1")
PREDICTORS = {"gep": "Model, GEP", "gepc": "Model, GEPC", "gene_mean": "Mean of each gene"}


@dataclass(frozen=True)
class Embedded:
    """What the step `embeddings` wrote: its tables by name, and `embeddings.json`."""

    embeddings: pd.DataFrame
    umap: pd.DataFrame
    genes: pd.DataFrame
    markers: pd.DataFrame
    frequency: pd.DataFrame
    told: Mapping[str, Any]

    def why_not(self, task: str) -> str:
        """Say why a task could not be measured; nothing where it was."""
        return self.told["tasks"][task].get("why_not", "")

    def scores(self, task: str) -> pd.DataFrame:
        """Scores of one task, representations in the page's order."""
        rows = self.embeddings[self.embeddings["task"] == task]
        order = {name: i for i, name in enumerate(NAMES)}
        return rows.sort_values("representation", key=lambda names: names.map(order), kind="stable")


def cells(found: Embedded) -> str:
    """What was embedded, and how much of it has a known type."""
    n = found.told["cells"]
    known, total = n["train_labelled"] + n["test_labelled"], n["train"] + n["test"]
    return (
        f"{count(n['train'], 'training cell')} and {count(n['test'], 'cell')} of held-out samples, chosen by hash, "
        f"were embedded with nothing masked. {count(total - known, 'cell')} of these {total:,} have no known type and "
        "are left out wherever types are compared."
    )


def verdict(found: Embedded) -> list[str]:
    """One sentence for each way to score types, by macro-F1: where the model stands, and what is above it."""
    return [sentence for task in ("held_out", "in_turn") for sentence in _verdicts(found, task)]


def _verdicts(found: Embedded, task: str) -> list[str]:
    if why := found.why_not(task):
        return [f"{TASKS[task]}: not measured, since {why}."]
    told, sentences = found.told["tasks"][task], []
    scored = f"{count(told['n'], 'cell')} of {count(told['n_classes'], 'type')}, {count(told['n_persons'], 'person')}"
    scores = found.scores(task)
    for metric, by in (("knn_macro_f1", "15 nearest cells"), ("logistic_macro_f1", "logistic regression")):
        values = scores[scores["metric"] == metric].set_index("representation")["value"]
        name = max(("model_cls", "model_mean"), key=values.get)
        others = values[values.index.isin(BASELINES)].sort_values(ascending=False)
        leads = scores[scores["metric"] == f"{metric}_lead"].set_index("representation")
        sides = ("above it", others[others > values[name]]), ("below it", others[others <= values[name]])
        words = (
            f"{where} {listed([f'{NAMES[key]} {x:.2f}' for key, x in side.items()])}"
            for where, side in sides
            if len(side)
        )
        sentences.append(
            f"{TASKS[task]} ({scored}), by {by}: {NAMES[name]} {values[name]:.2f}; {'; '.join(words)}.{_surely(leads)}"
        )
    return sentences


def _surely(leads: pd.DataFrame) -> str:
    """Which differences from the model's <cls> are no matter of which persons were met."""
    rows = [row for row in leads.itertuples() if row.Index in BASELINES and (row.low > 0 or row.high < 0)]
    parts = [f"{NAMES[row.Index]} {-row.value:+.2f} ({-row.high:+.2f} to {-row.low:+.2f})" for row in rows]
    return f" Surely different from <cls>, persons drawn in pairs: {listed(parts)}." if parts else ""


def classified(found: Embedded, task: str) -> Table:
    """Scores of one way to tell types, with intervals."""
    return _wide(found, task, CLASSIFIED)


def integrated(found: Embedded) -> Table:
    """Scores of scib-metrics."""
    frame = pd.concat([found.scores("clusters"), found.scores("mixing")])
    return _wide(found, frame, INTEGRATED)


def _wide(found: Embedded, task: str | pd.DataFrame, metrics: Mapping[str, str]) -> Table:
    frame = found.scores(task) if isinstance(task, str) else task
    by_key = {(r.representation, r.metric): r for r in frame.itertuples()}
    by_key |= {(name, f"{classifier}_{rest}"): r for (name, metric), r in by_key.items() if name == "majority"
               for rest in [metric.removeprefix("majority_")] for classifier in ("knn", "logistic")}  # fmt: skip
    shown = {key: name for key, name in metrics.items() if any(metric == key for _, metric in by_key)}
    best = {key: _best([r.value for (_, metric), r in by_key.items() if metric == key]) for key in shown}
    names = [name for name in NAMES if any(key == name for key, _ in by_key)]
    rows = (
        row(NAMES[name], *(_value(by_key.get((name, key)), best[key]) for key in shown), kind=_kind(name))
        for name in names
    )
    return table([("Representation", "name"), *((text, "n") for text in shown.values())], rows, shown=20)


def _best(values: Sequence[float]) -> str:
    """The largest value as it is printed; nothing where all look the same."""
    printed = [f"{value:.2f}" for value in values]
    return max(printed) if len(set(printed)) > 1 else ""


def _value(score: Any, best: str) -> Cell | None:
    if score is None:
        return None
    interval = "" if np.isnan(score.low) else f" ({score.low:.2f} to {score.high:.2f})"
    return Cell(f"{score.value:.2f}{interval}", "best" if f"{score.value:.2f}" == best else "")


def _kind(name: str) -> str:
    return "gep" if name.startswith("model") else ""


def told_batch(found: Embedded) -> Table:
    """How well a linear classifier tells from which sample and data set a cell comes."""
    tasks = {task: name for task, name in TASKS.items() if task.startswith("tells") and not found.why_not(task)}
    values = {(r.representation, task): r.value for task in tasks for r in found.scores(task).itertuples()
              if r.metric.endswith("_accuracy")}  # fmt: skip
    names = [name for name in NAMES if any(key == name for key, _ in values)]
    columns = [("Representation", "name")]
    for task, name in tasks.items():
        columns.append((f"{name} (of {found.told['tasks'][task]['n_classes']:,})", "n"))
    rows = (row(NAMES[name], *(f"{100 * values[name, task]:.0f} %" for task in tasks), kind=_kind(name))
            for name in names)  # fmt: skip
    return table(columns, rows, shown=20)


def batch(found: Embedded) -> str:
    """How well the gene set alone tells the batch, in words."""
    parts = []
    for task, what in (("tells_sample", "sample"), ("tells_dataset", "data set")):
        if why := found.why_not(task):
            parts.append(f"Which {what} a cell comes from was not asked, since {why}.")
            continue
        values = found.scores(task).set_index(["representation", "metric"])["value"]
        parts.append(
            f"The set of genes that a cell shows, without any value, tells its {what} in "
            f"{100 * values['gene_set', 'linear_accuracy']:.0f} % of cells (the model's <cls> in "
            f"{100 * values['model_cls', 'linear_accuracy']:.0f} %, the most frequent {what} would be right in "
            f"{100 * values['majority', 'majority_accuracy']:.0f} %)."
        )
    return " ".join(parts)


def markers(found: Embedded) -> Table:
    """Mean cosine of the markers of each type beside genes drawn in their place, by embedding."""
    columns = [("Markers of", "name"), ("Genes", "n"), ("Embedding", "name"), ("Mean cosine", "n"),
               ("Drawn genes", "n"), ("95 % of draws", "n"), ("p", "n")]  # fmt: skip
    rows = []
    for kind in dict.fromkeys(found.markers["set"]):
        for vectors, name in VECTORS.items():
            part = found.markers[(found.markers["set"] == kind) & (found.markers["representation"] == vectors)]
            label = "all: nearest marker is of the same type" if kind == "all" else kind
            rows += [
                row(label, int(m.n), name, f"{m.value:.2f}", f"{m.expected:.2f}", f"{m.low:.2f} to {m.high:.2f}",
                    f"{m.p:.3f}", kind="gep" if vectors == "model" else "")
                for m in part.itertuples()
            ]  # fmt: skip
    return table(columns, rows, shown=30)


def marker_words(found: Embedded) -> str:
    """How many marker sets hold together in each embedding."""
    if not len(found.markers):
        return (
            "Fewer than three markers of each type are in the vocabulary and in 20 training cells: none are compared."
        )
    sets = found.markers[found.markers["metric"] == "similarity"]
    parts = []
    for vectors, name in VECTORS.items():
        part = sets[sets["representation"] == vectors]
        if len(part):
            parts.append(f"{name}: {(part['p'] < 0.05).sum()} of {len(part)}")
    return (
        "Sets of markers whose genes lie closer together than genes drawn in their place that are shown as often "
        f"(p < 0.05, 1,000 draws, each set by itself): {'; '.join(parts)}."
    )


def neighbours(found: Embedded, shown: Sequence[str] = SHOWN_MARKERS) -> Table:
    """Nearest genes of some markers in the model's gene embedding."""
    columns = [("Gene", "name"), ("Training cells", "n"), ("Nearest genes (cosine)", "long")]
    genes = found.genes[found.genes["feature_name"].str.upper().isin(shown)]
    genes = genes[genes["neighbours"].map(len) > 0].sort_values("feature_name", key=lambda names: names.str.upper())
    rows = (
        row(g.feature_name, int(g.n_cells),
            ", ".join(f"{name} {cosine:.2f}" for name, cosine in zip(g.neighbours[:8], g.cosines[:8], strict=True)))
        for g in genes.itertuples()
    )  # fmt: skip
    return table(columns, rows, shown=12, source="evaluation/genes.parquet")


def frequency(found: Embedded) -> Table:
    """Error by how many training cells show a gene."""
    columns = [("Training cells that show the gene", "name"), ("Genes", "n"), ("Hidden values", "n"),
               *((name, "n") for name in PREDICTORS.values())]  # fmt: skip
    rows = []
    for at_least, part in found.frequency.groupby("at_least", sort=True):
        by = part.set_index("predictor")
        first = part.iloc[0]
        values = [by.loc[name] if name in by.index else None for name in PREDICTORS]
        best = min(value["mse"] for value in values if value is not None)
        rows.append(row(classes(at_least, first["below"]), int(first["n_genes"]), int(first["n"]),
                        *(_error(value, best) for value in values)))  # fmt: skip
    return table(columns, rows, shown=20)


def frequency_words(found: Embedded) -> str:
    """Where the model is better than each gene's mean, by how often genes were trained."""
    wide = found.frequency.pivot_table(index="at_least", columns="predictor", values="mse")
    below = found.frequency.groupby("at_least")["below"].first()
    names = np.array([classes(at_least, below[at_least]) for at_least in wide.index], object)
    wins = (wide["gep"] < wide["gene_mean"]).to_numpy()
    parts = (("below each gene's mean", names[wins]), ("not below it", names[~wins]))
    told = "; ".join(f"{what} for genes that show in {listed(list(which))}" for what, which in parts if len(which))
    return f"By training cells that show a gene, GEP's error is {told}."


def classes(at_least: int, below: float) -> str:
    """Name a class of frequencies."""
    if below == 1:
        return "none"
    return f"{at_least:,} or more" if np.isnan(below) else f"{at_least:,} to {int(below) - 1:,}"


def _error(value: Any, best: float) -> Cell | None:
    if value is None:
        return None
    interval = "" if np.isnan(value["low"]) else f" ({value['low']:.0f} to {value['high']:.0f})"
    return Cell(f"{value['mse']:.1f}{interval}", "best" if value["mse"] == best else "")
