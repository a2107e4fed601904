"""What the sections about data say: samples, filters, genes, tokens, time, provenance."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from censusformer.report import tables
from censusformer.report.findings import count, duration, percent
from censusformer.report.run import Run
from censusformer.report.shown import Cell, Table, bar, link, row, table
from censusformer.report.tables import SPLITS, Stage

STATUS = {"train": "training", "test": "held-out test", "out": "left out"}
MOST_COMPARED = 300  # samples whose gene lists are compared: a fair part, since their order is a hash


def selection(run: Run) -> str:
    """How many samples were met, chosen and left out."""
    status = run.samples["status"]
    n, out = len(status), int((status == "out").sum())
    met = run.provenance.get("cells", {}).get("census")
    of = f"Of {met:,} cells in the census, the" if isinstance(met, int) else "The"
    return (
        f"{of} query met {count(n, 'sample')} of {count(run.samples['dataset_id'].nunique(), 'data set')}; "
        f"{count(n - out, 'sample')} with {count(_chosen_cells(run), 'cell')} were chosen and {out:,} left out."
    )


def reasons(run: Run) -> Table:
    """Chosen samples, and the others by the reason why not."""
    groups = tables.by_reason(run.samples)
    most = int(groups["n_cells"].max())
    columns = [("Samples are", "name"), ("Why", "name"), ("Samples", "n"), ("Cells", "n"), ("", "bars")]
    rows = (
        row(STATUS[g.status], g.reason or "chosen", int(g.n_samples), int(g.n_cells), bar(g.n_cells, most),
            kind=g.status)
        for g in groups.itertuples()
    )  # fmt: skip
    return table(columns, rows, shown=20)


def chosen(qc: pd.DataFrame) -> Table:
    """Chosen samples with their cells before and after the filter."""
    columns = [("Sample", "name"), ("Used for", "name"), ("Cells", "n"), ("Kept", "n"), ("Counts a cell", "n"),
               ("Genes a cell", "n")]  # fmt: skip
    rows = (row(s.sample, STATUS[s.status], int(s.n_cells), int(s.n_kept), _round(s.counts), _round(s.genes))
            for s in qc.itertuples())  # fmt: skip
    return table(columns, rows, source="samples.parquet")


def left_out(run: Run) -> Table:
    """Samples that were not chosen, largest first, with the reason."""
    out = run.samples[run.samples["status"] == "out"].sort_values(["n_cells", "sample"], ascending=[False, True])
    columns = [("Sample", "name"), ("Cells", "n"), ("Why", "name")]
    rows = (row(s.sample, int(s.n_cells), s.reason) for s in out.itertuples())
    return table(columns, rows, source="samples.parquet")


def _round(value: float) -> int | None:
    return None if np.isnan(value) else round(value)


def cell_stages(run: Run) -> list[Stage]:
    """Cells from the query to the shards."""
    kept = sum(run.tokens[split].n_cells for split in SPLITS)
    stages = [
        Stage("Met by the query", int(run.samples["n_cells"].sum()), "census.filter"),
        Stage("In chosen samples", _chosen_cells(run), "see Samples"),
        Stage("With enough genes", len(run.cells), run.setting("filter.min_genes_per_cell")),
        Stage("With enough tokens", kept, run.setting("tokenize.min_genes")),
    ]
    rule = run.setting("split.valid_fraction")
    parts = (("train", "training", rule), ("valid", "validation", rule), ("test", "held-out test", "whole samples"))
    return stages + [Stage(f"of these {name}", run.tokens[key].n_cells, why, key) for key, name, why in parts]


def _chosen_cells(run: Run) -> int:
    return int(run.samples.loc[run.samples["status"] != "out", "n_cells"].sum())


def gene_stages(run: Run) -> list[Stage]:
    """Genes from those measured to those that the model was trained on."""
    stages = [] if run.n_measured is None else [Stage("Measured", run.n_measured, "of the chosen data sets")]
    selected = int((run.n_samples_of_gene > 0).sum())
    shared = int((run.n_samples_of_gene == _n_lists(run)).sum())
    return [
        *stages,
        Stage("In the vocabulary", run.n_genes, run.setting("filter.min_counts_per_gene")),
        Stage("Highly variable in a sample or more", selected, run.setting("hvg.n_top")),
        Stage("Highly variable in every sample", shared, ""),
    ]


def _n_lists(run: Run) -> int:
    return run.hvg["sample"].nunique()


def stages_table(stages: list[Stage], unit: str) -> Table:
    """Stages with what is left, as a number and a bar."""
    columns = [("Step", "name"), (unit, "n"), ("", "bars"), ("Share", "n"), ("Setting", "name")]
    first = stages[0].n
    rows = (row(s.name, s.n, bar(s.n, first), percent(s.n / first) if first else None, s.rule, kind=s.kind)
            for s in stages)  # fmt: skip
    return table(columns, rows, shown=20)


def overlap(run: Run) -> dict:
    """Jaccard indices between samples and what they say.

    Returns
    -------
    `values` (S, S) and `datasets` (S,) by data set, `within`, `between`, `chance` and `text`.
    """
    names = run.samples[(run.samples["status"] != "out") & run.samples["sample"].isin(run.hvg["sample"].unique())]
    names = names.sort_values("order", kind="stable").head(MOST_COMPARED).sort_values(["dataset_id", "sample"])
    member = tables.membership(run.hvg, names["sample"].tolist())
    values, datasets = tables.jaccard(member), names["dataset_id"].to_numpy(str)
    within, between = tables.pairs(values, datasets)
    chance = tables.chance_jaccard(member.sum(1), run.n_genes)
    text = _overlap_text(run, len(names), np.r_[within, between], chance)
    return {"values": values, "datasets": datasets, "within": within, "between": between, "chance": chance,
            "text": text}  # fmt: skip


def _overlap_text(run: Run, compared: int, pairs: np.ndarray, chance: float) -> str:
    used = run.n_samples_of_gene[run.n_samples_of_gene > 0]
    median = f"{np.median(pairs):.2f} for the median pair" if len(pairs) else "not defined for one sample"
    lists = _n_lists(run)
    part = "" if compared == lists else f" ({compared} of the {lists:,} samples were compared)"
    scope = "hvg.scope is all: the model sees one shared list, made of the samples' own lists, which stand here. "
    return (
        f"{scope if run.setting('hvg.scope') == 'hvg.scope: all' else ''}Each sample ranks its own highly variable "
        f"genes. The Jaccard index, shared genes over all genes of two lists, is {median}{part}; lists drawn at random "
        f"from the vocabulary would have {chance:.2f}. {count(len(used), 'gene')} of {run.n_genes:,} are selected at "
        f"all, {percent(np.mean(used == 1))} of them by one sample alone, whose cells alone can train them."
    )


def token_table(run: Run) -> Table:
    """Cells, tokens and ties of each split."""
    columns = [("Split", "name"), ("Cells", "n"), ("Dropped as too short", "n"), ("Tokens", "n"), ("Median", "n"),
               ("95 %", "n"), ("Most", "n"), ("Variance of ties (bins²)", "n")]  # fmt: skip
    rows = []
    for split in SPLITS:
        part = run.tokens[split]
        quantiles = [round(q) for q in np.quantile(part.lengths, [0.5, 0.95, 1])] if len(part.lengths) else [None] * 3
        tie_var = f"{part.tie_var:.1f}" if np.isfinite(part.tie_var) else None
        dropped = run.n_split[split] - part.n_cells
        rows.append(row(STATUS.get(split, "validation"), part.n_cells, dropped, part.n_tokens, *quantiles, tie_var))
    return table(columns, rows)


def tokens(run: Run) -> str:
    """How long cells are and what a bin is."""
    cells = sum(run.tokens[split].n_cells for split in SPLITS)
    total = sum(run.tokens[split].n_tokens for split in SPLITS)
    read = sum(len(run.tokens[split].lengths) for split in SPLITS)
    part = "" if read == cells else f" The figures show {count(read, 'cell')} of them, whole shards spread evenly."
    mean = total / cells if cells else 0
    return (
        f"{count(total, 'token')} in {count(cells, 'cell')}: {mean:.0f} a cell on average, of at most "
        f"{run.max_length - 1:,}. Expression is one of {run.n_bins - 1} bins; a zero is no token. Counts are small, so "
        f"many values of a cell are equal; how equal values share their bins is decided by binning.ties, and the "
        f"variance of that draw is the floor under every predictor's error.{part}"
    )


def resources(run: Run) -> tuple[str, Table]:
    """Wall time and memory by rule, and their sum in words."""
    rules = tables.resources(run.benchmarks)
    columns = [("Rule", "name"), ("Jobs", "n"), ("Wall time", "n"), ("", "bars"), ("Longest job", "n"),
               ("CPU time", "n"), ("Most memory (MB)", "n")]  # fmt: skip
    most = float(rules["seconds"].max()) if len(rules) else 0
    rows = (
        row(r.rule, int(r.jobs), duration(r.seconds), bar(r.seconds, most), duration(r.longest),
            None if np.isnan(r.cpu) else duration(r.cpu), _round(r.memory) or None)
        for r in rules.itertuples()
    )  # fmt: skip
    text = "Measured by Snakemake's benchmarks; jobs too short to be sampled show no memory."
    if len(rules):
        jobs, seconds = int(rules["jobs"].sum()), float(rules["seconds"].sum())
        text = f"{count(jobs, 'job')} took {duration(seconds)} of wall time if run one after the other. {text}"
    return text, table(columns, rows, shown=40)


def provenance(run: Run) -> str:
    """Which census, under which terms."""
    census = run.provenance.get("census", {})
    release, uri = census.get("version"), census.get("uri")
    where = f"the CELLxGENE Census, release {release}" if release else f"the census at {uri or 'an unknown place'}"
    licence = str(run.provenance.get("licence") or "not recorded").rstrip(".")
    return f"Cells come from {where}. Licence: {licence}. Cite the data sets below when you use this model."


def record(run: Run) -> Table:
    """Every plain value that `provenance.json` records and that no other table shows, by its key."""
    shown = ("cells", "samples", "left_out", "datasets", "licence")
    rest = {key: value for key, value in run.provenance.items() if key not in shown}
    return table([("Record", "name"), ("Value", "name")], (row(*pair) for pair in flat(rest)), shown=30)


def flat(content: Mapping, prefix: str = "") -> list[tuple[str, str]]:
    """Keys with dots and plain values of nested mappings; of lists the first items."""
    found = []
    for key, value in content.items():
        if isinstance(value, Mapping):
            found += flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            more = f" and {len(value) - 6:,} more" if len(value) > 6 else ""
            found.append((prefix + key, ", ".join(map(str, value[:6])) + more or "none"))
        else:
            found.append((prefix + key, "none" if value is None else str(value)))
    return found


def datasets(run: Run) -> Table:
    """The data sets with titles and publications, and what was taken of each."""
    chosen = run.samples[run.samples["status"] != "out"]
    cells, samples = chosen.groupby("dataset_id")["n_cells"].sum(), chosen["dataset_id"].value_counts()
    told = {item.get("dataset_id"): item for item in run.provenance.get("datasets", [])}
    columns = [("Data set", "name"), ("Samples", "n"), ("Cells", "n"), ("Collection", "name"), ("Publication", "name"),
               ("Citation", "long"), ("Id", "name")]  # fmt: skip
    rows = []
    for key in sorted(cells.index, key=lambda key: (-cells[key], key)):
        item = told.get(key, {})
        title, collection = item.get("dataset_title") or key, item.get("collection_name") or None
        citation = item.get("citation") or None
        rows.append(row(title, int(samples[key]), int(cells[key]), collection, _doi(item), citation, key))
    return table(columns, rows, source="provenance.json")


def _doi(item: Mapping) -> Cell | None:
    doi = (item.get("collection_doi") or "").removeprefix("https://doi.org/")
    return link(doi, f"https://doi.org/{doi}") if doi else None
