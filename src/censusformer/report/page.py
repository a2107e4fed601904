"""The page: sentences, tables and figures put into the template."""

import json

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from censusformer.report import embedded_page, figures, leakage, measured, reference, sections, tables, tasks
from censusformer.report.findings import (
    HEAD_NAMES,
    certainty,
    duels,
    head_sentences,
    headline,
    learned,
    listed,
    percent,
)
from censusformer.report.run import Run
from censusformer.report.tables import BASELINES, HEADS


def render(run: Run) -> str:
    """The whole page as HTML; the same run gives the same text.

    Everything that is shown is escaped. Nothing is loaded from elsewhere.
    """
    environment = Environment(
        loader=PackageLoader("censusformer.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    qc = tables.qc_by_sample(run.cells, run.samples)
    overlap = sections.overlap(run)
    return environment.get_template("page.html").render(
        figures={**_model_figures(run), **_data_figures(run, qc, overlap)},
        overlap=overlap["text"],
        chosen=sections.chosen(qc),
        **_first_screen(run),
        **_model(run),
        **_data(run),
        embedded=embedded_page.content(run.embedded),
        tasks=tasks.content(run.tasks),
    )


def _first_screen(run: Run) -> dict:
    split = run.test_split
    errors = tables.errors(run.reconstruction, split)
    found = duels(errors, run.intervals(split))
    ratios = [f"{100 * ratio:g}" for ratio in sorted(errors["mask_ratio"].dropna().unique())]
    return {
        "title": run.title,
        "headline": headline(found, split),
        "learned": learned(found),
        "trained": measured.trained(run),
        "note": run.provenance.get("census_summary", {}).get("note", ""),
        "held_out": split == "test",
        "copies": leakage.has_copies(run.leakage),
        "head_sentences": head_sentences(found),
        "duels": measured.duel_table(found),
        "certainty": certainty(found),
        "ratios": f"{listed(ratios)} % of a cell's genes hidden",
        "verdict_caption": _verdict_caption(run, split),
    }


def _verdict_caption(run: Run, split: str) -> str:
    text = (
        f"Error of every predictor on {figures.SPLIT_NAMES[split]} cells over all mask ratios; shorter is better. The "
        "pale band is the floor of random ties, which no predictor can pass."
    )
    if not run.intervals(split):
        return text
    return (
        f"{text} Thin lines: the 95 % interval, over samples, of how far each baseline stands from the model's GEP, "
        "seen from the end of the GEP's bar."
    )


def _model(run: Run) -> dict:
    return {
        "reconstruction": measured.error_tables(run),
        "leakage_text": leakage.leakage_text(run.leakage),
        "leakage_table": leakage.leakage_table(run.leakage),
        "reference_text": reference.reference_text(run),
        "reference_table": reference.reference_table(run),
        "training": measured.training(run),
        "epochs": measured.epoch_table(measured.curves(run.metrics)),
    }


def _data(run: Run) -> dict:
    resources_text, resources = sections.resources(run)
    return {
        "selection": sections.selection(run),
        "reasons": sections.reasons(run),
        "left_out": sections.left_out(run),
        "cell_stages": sections.stages_table(sections.cell_stages(run), "Cells"),
        "gene_stages": sections.stages_table(sections.gene_stages(run), "Genes"),
        "tokens": sections.tokens(run),
        "token_table": sections.token_table(run),
        "per_cell": "method: global" not in run.settings,
        "resources_text": resources_text,
        "resources": resources,
        "provenance_text": sections.provenance(run),
        "record": sections.record(run),
        "datasets": sections.datasets(run),
        "settings": run.settings,
        "args": json.dumps(run.args, indent=2, sort_keys=True, ensure_ascii=False),
    }


def _model_figures(run: Run) -> dict:
    wide = {
        split: tables.wide(tables.errors(run.reconstruction, split))
        for split in dict.fromkeys([run.test_split, "valid"])
    }
    metrics = measured.curves(run.metrics)
    lines = _lines(tables.errors(run.reconstruction, "valid"))
    return {
        "verdict": figures.verdict(wide[run.test_split], run.test_split, run.intervals(run.test_split)),
        "ratios": [
            (figures.by_ratio(table, split), "Error by the share of genes hidden; numbers stand for the largest share.")
            for split, table in wide.items()
        ],
        "losses": [
            (figures.loss(metrics, lines[head], head), f"{HEAD_NAMES[head]} by epoch, over all mask ratios.")
            for head in HEADS if (metrics["head"] == head).any()
        ],
    }  # fmt: skip


def _lines(errors: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The baselines that stand as lines beside each head's loss."""
    shown = [name for name in (*BASELINES, "tie_floor") if name in ("constant", "gene_mean", "ridge", "tie_floor")]
    pooled = errors[errors["mask_ratio"].isna()].set_index(["head", "predictor"])["mse"]
    return {head: {name: pooled[head, name] for name in shown if (head, name) in pooled.index} for head in HEADS}


def _data_figures(run: Run, qc: pd.DataFrame, overlap: dict) -> dict:
    return {
        "depth": figures.depth(qc),
        "genes_a_cell": figures.genes_a_cell(qc),
        "hvg": _overlap_figures(run, overlap),
        "tokens": figures.tokens_a_cell(run.tokens),
        "bins": figures.bins(run.tokens),
    }


def _overlap_figures(run: Run, overlap: dict) -> list[tuple[Markup, str]]:
    n, shown = run.hvg["sample"].nunique(), run.tokens["train"].genes
    rare = f"{percent(np.mean(shown[shown > 0] < 10))} of these genes are in fewer than ten cells."
    found = [
        (figures.samples_a_gene(run.n_samples_of_gene, n), "How many genes one sample selected, how many two, …"),
        (figures.cells_a_gene(shown), f"How often each gene's embedding is trained in an epoch. {rare}"),
    ]
    if len(overlap["values"]) < 2:
        return found
    return [
        (figures.overlap(overlap["values"], overlap["datasets"]),
         "Each square is a pair of samples; darker pairs share more of their genes. Lines part the data sets."),
        (figures.overlap_pairs(overlap["within"], overlap["between"], overlap["chance"]),
         "Pairs of samples of one data set, and of two: the gap is what gene lists tell of the batch."),
        *found,
    ]  # fmt: skip
