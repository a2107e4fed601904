"""Reading for the step `report`: files into one `Run`; of many shards only some are read."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from censusformer.errors import InputError
from censusformer.report.embedded import Embedded
from censusformer.report.run import Run, find
from censusformer.report.tables import SPLITS, SplitTokens
from censusformer.steps._json import read_json
from censusformer.steps._tables import read_table
from censusformer.tokens.shards import read_manifest, read_shard
from censusformer.tokens.vocabulary import Vocabulary

SAMPLES = ("sample", "dataset_id", "donor_id", "n_cells", "status", "reason", "order")
METRICS = ("epoch", "step", "split", "head", "mask_ratio", "mse", "n_masked", "seconds")
RECONSTRUCTION = ("split", "seen_dataset", "mask_ratio", "head", "predictor", "metric", "value", "low", "high", "n")
EMBEDDED = {
    "embeddings": ("representation", "task", "metric", "value", "low", "high", "n"),
    "umap": ("representation", "x", "y", "cell_type", "donor", "dataset"),
    "genes": ("feature_name", "n_cells", "neighbours", "cosines"),
    "markers": ("representation", "set", "metric", "value", "expected", "low", "high", "p", "n"),
    "frequency": ("at_least", "below", "n_genes", "n", "predictor", "mse", "low", "high"),
}
MOST_TOKENS = 20_000_000  # tokens that are read for the figures, about: 60 MB
_AGAIN = "delete it and run snakemake again"


def read_run(args: argparse.Namespace, settings: str) -> Run:
    """Read everything that the options of the step name."""
    vocab, manifest = Vocabulary.read(args.vocab), read_manifest(args.shards)
    provenance = read_result(args.provenance)
    return Run(
        title=title_of(settings, args.out),
        settings=settings,
        samples=frame([args.samples], SAMPLES).sort_values("order", kind="stable", ignore_index=True),
        provenance=provenance,
        args=read_result(args.model_args),
        n_measured=_n_measured(args.genes),
        n_genes=vocab.n_genes,
        n_samples_of_gene=np.array(vocab.n_samples, np.int64),
        hvg=frame(args.hvg, ("sample", "feature_id"), categories=True),
        cells=frame(args.cells, ("sample", "n_counts", "n_genes"), categories=True),
        n_split=count_splits(args.split),
        tokens=read_tokens(args.shards, manifest, vocab),
        n_bins=manifest["n_bins"],
        max_length=manifest["max_length"],
        metrics=read_metrics(args.metrics),
        reconstruction=read_reconstruction(args.evaluation / "reconstruction.parquet"),
        summary=read_result(args.evaluation / "summary.json"),
        leakage=read_result(leakage) if (leakage := args.evaluation / "leakage.json").is_file() else {},
        embedded=read_embedded(args.evaluation),
        tasks={path.parent.name: read_result(path) for path in args.tasks},
        benchmarks=read_benchmarks(args.benchmarks, {path.stem for path in args.hvg}, _census_of(provenance)),
    )


def read_embedded(folder: Path) -> Embedded | None:
    """Read what `embeddings` wrote, all of it; None where it did not run, or was told to measure nothing."""
    told = folder / "embeddings.json"
    if not told.is_file() or not read_result(told)["measured"]:
        return None
    tables = {name: frame([folder / f"{name}.parquet"], columns) for name, columns in EMBEDDED.items()}
    return Embedded(**tables, told=read_result(told))


def title_of(settings: str, out: Path) -> str:
    """`{dataset} / {run}` of the configuration; without one, of the page's folder."""
    lines = dict(line.split(": ", 1) for line in settings.splitlines() if line.startswith(("dataset: ", "run: ")))
    folder = out.resolve().parent
    names = lines.get("dataset", folder.parent.name), lines.get("run", folder.name)
    return " / ".join(name.strip().strip("'\"") for name in names)


def frame(paths: Sequence[Path], columns: Sequence[str], *, categories: bool = False) -> pd.DataFrame:
    """Rows of all files; with `categories` texts are categories, which take four bytes a row."""
    parts = [_texts(read_table(path, columns)) for path in paths]
    return pa.concat_tables(parts, promote_options="permissive").to_pandas(strings_to_categorical=categories)


def _texts(table: pa.Table) -> pa.Table:
    """Dictionaries as plain texts: those of two files do not go together."""
    fields = [field.with_type(pa.string()) if pa.types.is_dictionary(field.type) else field for field in table.schema]
    return table.cast(pa.schema(fields))


def read_result(path: Path) -> dict[str, Any]:
    """Read a JSON file that a step wrote."""
    return read_json(path, _AGAIN)


def _n_measured(genes: Path) -> int | None:
    """Genes before the filter, where the step `genes` recorded them."""
    recorded = (pq.read_schema(genes).metadata or {}).get(b"n_measured")
    return None if recorded is None else int(recorded)


def count_splits(paths: Sequence[Path]) -> dict[str, int]:
    """Kept cells of each split."""
    counts = dict.fromkeys(SPLITS, 0)
    for path in paths:
        for item in read_table(path, ["split"])["split"].cast(pa.string()).value_counts().to_pylist():
            if item["values"] not in counts:
                raise InputError(f"{path} has the split {item['values']!r}: {_AGAIN}")
            counts[item["values"]] += item["counts"]
    return counts


def read_tokens(shards: Path, manifest: Mapping, vocab: Vocabulary) -> dict[str, SplitTokens]:
    """Tokens a cell and bins of each split: of all shards, or of some spread evenly where there are many tokens."""
    if manifest["vocab_sha256"] != vocab.sha256:
        raise InputError(f"{shards} lists shards of another vocabulary than --vocab: run snakemake again")
    return {split: _read_split(shards.parent, manifest, split, vocab.n_genes) for split in SPLITS}


def _read_split(folder: Path, manifest: Mapping, split: str, n_genes: int) -> SplitTokens:
    listed = manifest["splits"][split]["files"]
    lengths, ties = [np.empty(0, np.int64)], 0.0
    bins, genes = np.zeros(manifest["n_bins"], np.int64), np.zeros(n_genes, np.int64)
    for file in _spread(listed):
        cells, _ = read_shard(folder / file["path"], manifest["vocab_sha256"])
        lengths.append(cells.lengths)
        bins += np.bincount(cells.values, minlength=len(bins))
        genes += np.bincount(cells.genes, minlength=n_genes)
        ties += float(cells.tie_var.astype(np.float64) @ cells.lengths)
    total = int(bins.sum())
    n_cells, n_tokens = (sum(file[key] for file in listed) for key in ("rows", "tokens"))
    return SplitTokens(n_cells, n_tokens, np.concatenate(lengths), bins, genes, ties / total if total else np.nan)


def _spread(listed: Sequence[Mapping]) -> list[Mapping]:
    """All files, or so many of them, spread evenly, that they hold about `MOST_TOKENS`."""
    tokens = sum(file["tokens"] for file in listed)
    step = max(1, -(-tokens // MOST_TOKENS))
    return list(listed[::step])


def read_metrics(path: Path) -> pd.DataFrame:
    """Read `metrics.csv`; without a column `span` every row counts as an epoch's."""
    table = _read_text(path, ",")
    _need(path, table, METRICS)
    return table if "span" in table else table.assign(span="epoch")


def read_reconstruction(path: Path) -> pd.DataFrame:
    """Read `evaluation/reconstruction.parquet`; it has to hold the model's errors on validation cells at least."""
    table = frame([path], RECONSTRUCTION)
    errors = table[table["metric"] == "mse"]
    for split in ("valid", *(["test"] if (table["split"] == "test").any() else [])):
        found = set(errors.loc[errors["split"] == split, "predictor"])
        if "model" not in found or len(found) == 1:
            raise InputError(
                f"{path} has no errors of the model beside a baseline for {split} cells: run evaluate again"
            )
    return table


def read_benchmarks(folders: Sequence[Path], chunks: set[str], census: str) -> pd.DataFrame:
    """Read Snakemake's benchmark files, one row a job.

    Files lie as `{rule}.tsv` or `{rule}/{name}.tsv`. A name is a chunk's, or that of the census that was made of one's
    own files; those of other data sets, which lie in the same folder, are left out.
    """
    parts = []
    for folder in folders:
        for path in sorted(folder.rglob("*.tsv")):
            rule = path.relative_to(folder).parts[0].removesuffix(".tsv")
            if _concerns(path, rule, chunks, census):
                parts.append(_read_benchmark(path, rule))
    empty = pd.DataFrame(columns=["rule", "s", "cpu_time", "max_rss"]).astype(
        {"s": float, "cpu_time": float, "max_rss": float}
    )
    return pd.concat(parts, ignore_index=True) if parts else empty


def _concerns(path: Path, rule: str, chunks: set[str], census: str) -> bool:
    """Whether a benchmark is of this data set's making; the page's own last one is not."""
    if rule in ("report", "demo"):
        return rule == "demo" and Path(census).name == "demo"
    return path.stem == rule or path.stem in chunks or path.stem in census


def _read_benchmark(path: Path, rule: str) -> pd.DataFrame:
    table = _read_text(path, "\t")
    _need(path, table, ("s",))
    columns = {name: pd.to_numeric(table.get(name, np.nan), errors="coerce") for name in ("s", "cpu_time", "max_rss")}
    return pd.DataFrame(columns, index=table.index).assign(rule=rule)


def _census_of(provenance: Mapping) -> str:
    return str(find(provenance, "uri") or "")


def _read_text(path: Path, separator: str) -> pd.DataFrame:
    try:
        return pd.read_csv(path, sep=separator)
    except (ValueError, UnicodeDecodeError) as error:  # pandas' own errors are ValueErrors
        raise InputError(f"{path} is damaged ({str(error).splitlines()[0]}): {_AGAIN}") from error


def _need(path: Path, table: pd.DataFrame, columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in table]
    if missing:
        raise InputError(f"{path} has no column {', '.join(missing)}: {_AGAIN}")
