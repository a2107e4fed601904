"""The section about tasks: what heads on the trained encoder do with cells of one's own, beside usual methods."""

from collections.abc import Mapping
from typing import Any

from censusformer.report.shown import Table, row, table

_METHODS = {
    "pca": "principal components",
    "pca_harmony": "the same, Harmony",
    "model_cls": "the model's embeddings",
    "integrated": "integrated",
}
_MIXING, _KEEPING = ("ilisi", "kbet", "silhouette_batch"), ("silhouette_label", "graph_connectivity", "nmi", "ari")
_COLUMNS = {
    "ilisi": "iLISI",
    "kbet": "kBET",
    "silhouette_batch": "silhouette of batches",
    "silhouette_label": "silhouette of labels",
    "graph_connectivity": "graph connectivity",
    "nmi": "NMI",
    "ari": "ARI",
}


def content(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """All that the template asks for, by task; None where no task was run."""
    if not found:
        return None
    annotation, integration = found.get("annotation"), found.get("integration")
    return {
        "labels": None if annotation is None else labels(annotation),
        "label_table": None if annotation is None else label_table(annotation),
        "batches": None if integration is None else batches(integration),
        "batch_table": None if integration is None else batch_table(integration),
    }


def labels(found: Mapping[str, Any]) -> str:
    """How annotation stands to its baseline, in words."""
    leads = [score["lead"] for score in found["scores"]]
    first = found["scores"][0]
    told = (
        f"{found['cells']:,} cells of {found['persons']} persons with {len(found['labels'])} labels ({found['label']})"
    )
    if any(lead["low"] is None for lead in leads):
        verdict = "too few persons for an interval: read the two side by side"
    elif all(lead["low"] > 0 for lead in leads):
        verdict = "the model is better, beyond its interval, with every seed"
    elif all(lead["high"] < 0 for lead in leads):
        verdict = "the baseline is better, beyond its interval, with every seed"
    else:
        verdict = "the two are level, within the interval"
    sure = f"{100 * first['unknown']:.1f} % of the cells are called unknown"
    right = f"of the others {_percent(first['accuracy_called'])} are right"
    return f"{told}, each predicted by a model that saw no cell of its person: {verdict}. {sure}; {right}."


def label_table(found: Mapping[str, Any]) -> Table:
    """Macro-F1 of each seed beside logistic regression on genes."""
    columns = [("seed", "n"), ("macro-F1", "n"), ("logistic regression on HVGs", "n"), ("lead", "n"), ("accuracy", "n"),
               ("its accuracy", "n"), ("calibration error", "n")]  # fmt: skip
    rows = [
        row(
            score["seed"],
            *(_interval(score[name]) for name in ("model", "logistic_hvg", "lead")),
            f"{score['accuracy']:.3f}",
            f"{score['logistic_hvg_accuracy']:.3f}",
            f"{score['calibration_error']:.3f}",
        )
        for score in found["scores"]
    ]
    return table(columns, rows)


def batches(found: Mapping[str, Mapping[str, float]]) -> str:
    """Where integrated embeddings stand by each score, in words."""
    return " ".join(
        f"{side}, {_best(found, names)}."
        for side, names in (("Of scores of mixing", _MIXING), ("Of scores of labels", _KEEPING))
    )


def _best(found: Mapping[str, Mapping[str, float]], names: tuple[str, ...]) -> str:
    known = [name for name in names if all(name in score for score in found.values())]
    best: dict[str, list[str]] = {}
    for name in known:
        winner = max(found, key=lambda method: found[method][name])
        best.setdefault(winner, []).append(_COLUMNS[name])
    if not best:
        return "none could be measured"
    return "; ".join(f"{_METHODS[method]} lead by {', '.join(scores)}" for method, scores in best.items())


def batch_table(found: Mapping[str, Mapping[str, float]]) -> Table:
    """Scores by method."""
    known = [name for name in _COLUMNS if any(name in score for score in found.values())]
    columns = [("", "name"), *((_COLUMNS[name], "n") for name in known)]
    rows = [
        row(_METHODS[method], *(None if name not in score else f"{score[name]:.3f}" for name in known))
        for method, score in found.items()
    ]
    return table(columns, rows)


def _interval(score: Mapping[str, float | None]) -> str:
    if score["low"] is None:
        return f"{score['value']:.3f}"
    return f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})"


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.1f} %"
