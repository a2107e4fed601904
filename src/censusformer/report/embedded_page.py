"""The sections about embeddings: sentences, tables and figures for the template `embeddings.html`."""

from typing import Any

from censusformer.evaluation.markers import SOURCE
from censusformer.report import embedded, embedded_figures
from censusformer.report.embedded import PREDICTORS, TASKS, Embedded
from censusformer.report.figures import SPLIT_NAMES

_BATCHES = {"dataset": "data sets", "sample": "samples"}


def content(found: Embedded | None) -> dict[str, Any] | None:
    """All that the template asks for; None where nothing was measured."""
    if found is None:
        return None
    measured = [task for task in ("held_out", "in_turn") if not found.why_not(task)]
    integration = found.told["tasks"]["integration"]
    return {
        "cells": embedded.cells(found),
        "verdict": embedded.verdict(found),
        "figures": [
            (
                embedded_figures.scores(found, task),
                f"{TASKS[task]}: macro-F1, with 95 % over persons where there are five.",
            )
            for task in measured
        ],
        "classified": [(TASKS[task], embedded.classified(found, task)) for task in measured],
        "integrated": None if found.why_not("integration") else embedded.integrated(found),
        "not_integrated": found.why_not("integration"),
        "batches": _BATCHES.get(integration.get("batch", ""), ""),
        "batch": embedded.batch(found),
        "told_batch": embedded.told_batch(found),
        "planes": embedded_figures.planes(found),
        "n_drawn": f"{found.umap['cell_type'].size // max(1, found.umap['representation'].nunique()):,}",
        **_genes(found),
    }


def _genes(found: Embedded) -> dict[str, Any]:
    return {
        "marker_words": embedded.marker_words(found),
        "marker_source": SOURCE,
        "markers": embedded.markers(found),
        "neighbours": embedded.neighbours(found),
        "frequency": embedded.frequency(found),
        "frequency_words": embedded.frequency_words(found),
        "by_frequency": embedded_figures.by_frequency(found.frequency, PREDICTORS),
        "scored_on": SPLIT_NAMES[found.told["genes_scored_on"]],
    }
