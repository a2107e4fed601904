"""Read a chunk and the kept genes; write its kept cells with QC, and each sample's highly variable genes.

`cells/{chunk}.parquet` has a row for each cell that expresses enough of the kept genes, `hvg/{chunk}.parquet` a row for
each gene that a sample selected. Two passes over the chunk serve all its samples.
"""

import argparse
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from censusformer.expression import hvg, moments
from censusformer.expression.normalize import normalised
from censusformer.steps._chunks import Chunk, Rows, open_chunk
from censusformer.steps._genes import Genes
from censusformer.steps._h5ad import UNKNOWN, Labels
from censusformer.steps._options import add_normalize_arguments, share, whole_number
from censusformer.steps._tables import write_table

logger = logging.getLogger("censusformer")
IN_MEMORY = 256 * 2**20  # bytes of a chunk that is not read a second time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the step's options."""
    add = parser.add_argument
    add("--chunk", type=Path, required=True, help="the chunk's raw counts, census/{chunk}.h5ad")
    add("--genes", type=Path, required=True, help="the kept genes, genes.parquet")
    add("--out-hvg", type=Path, required=True, help="where each sample's genes go, a Parquet file")
    add("--out-cells", type=Path, required=True, help="where the kept cells go, a Parquet file")
    add("--hvg-n-top", type=whole_number(1), default=1200, help="genes selected in each sample")
    add("--hvg-flavor", choices=hvg.FLAVORS, default="seurat_v3", help="scanpy's name of the method")
    add("--hvg-span", type=share, default=1.0, help="share of the genes that loess sees (seurat_v3 flavours)")
    add("--filter-min-genes-per-cell", type=whole_number(1), default=40, help="least number of kept genes in a cell")
    add_normalize_arguments(parser)


@dataclass(frozen=True)
class Quality:
    """What decides whether a cell is kept, over the kept genes; all (n_cells,).

    `n_counts` and `n_mito` (mitochondrial counts) are int64, `n_genes` (expressed ones) is int32.
    """

    n_counts: np.ndarray
    n_genes: np.ndarray
    n_mito: np.ndarray

    @classmethod
    def zeros(cls, n: int) -> "Quality":
        """Nothing counted yet."""
        return cls(np.zeros(n, np.int64), np.zeros(n, np.int32), np.zeros(n, np.int64))

    def take(self, rows: slice | np.ndarray) -> "Quality":
        """Take these rows; a slice is a view."""
        return Quality(self.n_counts[rows], self.n_genes[rows], self.n_mito[rows])


class Passes:
    """A chunk that is gone through more than once: kept in memory where it is small, else read again.

    Parameters
    ----------
    chunk
        The open chunk.
    gene_of
        int32 (n_columns,): which kept gene each column is, -1 for none.
    group
        int32 (n_cells,): each row's sample, -1 for a dropped cell.
    """

    def __init__(self, chunk: Chunk, gene_of: np.ndarray, group: np.ndarray) -> None:
        self.chunk, self.gene_of, self.group = chunk, gene_of, group
        self._rows = list(chunk.rows()) if chunk.n_bytes <= IN_MEMORY else None

    def blocks(self) -> Iterator[tuple[Rows, tuple[np.ndarray, ...]]]:
        """Each block of rows, and what every kernel starts with."""
        for rows in self.chunk.rows() if self._rows is None else self._rows:
            yield rows, (rows.indptr, rows.indices, rows.data, self.gene_of, self.group[rows.slice])


def first_pass(
    job: Passes, genes: Genes, sums: np.ndarray, *, min_genes: int, normalize: Callable[..., np.ndarray] | None
) -> Quality:
    """Count cells' quality, drop poor cells from `job.group`, and add the others' moments to `sums`."""
    is_mito = np.array([name.upper().startswith("MT-") for name in genes.feature_name], bool)
    quality = Quality.zeros(job.chunk.n_cells)
    for rows, block in job.blocks():
        one = quality.take(rows.slice)
        moments.add_cell_counts(*block[:4], is_mito, one.n_counts, one.n_genes, one.n_mito)
        job.group[rows.slice][one.n_genes < min_genes] = -1
        values = rows.data if normalize is None else normalize(rows.indptr, rows.data, one.n_counts)
        moments.add_moments(*block[:2], values, *block[3:], sums)
    return quality


def score_by_dispersion(sums: np.ndarray, n_cells: np.ndarray, expressed: np.ndarray, flavor: str) -> np.ndarray:
    """Score each sample's genes, float64 (n_samples, n_genes); NaN for those that it does not express."""
    scores = np.full(sums.shape[:2], np.nan)
    for s in np.flatnonzero(n_cells):
        on = expressed[s]
        mean, variance = hvg.mean_variance(n_cells[s], *sums[s, on].T)
        scores[s, on] = hvg.dispersion_scores(mean, variance, flavor)
    return scores


def score_by_clipped_variance(
    job: Passes, sums: np.ndarray, n_cells: np.ndarray, expressed: np.ndarray, span: float
) -> tuple[np.ndarray, dict[int, float | None]]:
    """Score each sample's genes as `score_by_dispersion`, with a second pass; and the spans that loess ended with."""
    trends: dict[int, hvg.Trend] = {}
    clip = np.full(sums.shape[:2], np.inf)
    for s in np.flatnonzero(n_cells):
        on = expressed[s]
        mean, variance = hvg.mean_variance(n_cells[s], *sums[s, on].T)
        trends[s] = hvg.variance_trend(mean, variance, span)
        clip[s, on] = hvg.clip_values(n_cells[s], mean, trends[s])
    clipped = np.zeros((*sums.shape[:2], 3))
    for _, block in job.blocks():
        moments.add_clipped(*block, clip, clipped)
    scores = np.full(sums.shape[:2], np.nan)
    for s, trend in trends.items():
        on = expressed[s]
        scores[s, on] = hvg.seurat_v3_scores(n_cells[s], sums[s, on], trend, clipped[s, on])
    return scores, {s: trend.span for s, trend in trends.items()}


def hvg_table(scores: np.ndarray, samples: tuple[str, ...], genes: Genes, n_top: int) -> pa.Table:
    """One row for each gene that a sample selected: sample, feature_id, score, rank (from 0)."""
    tops = [hvg.top_genes(row, n_top) for row in scores]
    sizes = [len(top) for top in tops]
    gene = np.concatenate(tops) if tops else np.empty(0, np.int64)
    rank = [np.arange(n, dtype=np.int32) for n in sizes]
    return pa.table(
        {
            "sample": _dictionary(Labels(np.repeat(np.arange(len(samples), dtype=np.int32), sizes), samples)),
            "feature_id": pa.array(genes.feature_id, pa.string()).take(pa.array(gene)),
            "score": np.concatenate([row[top] for row, top in zip(scores, tops, strict=True)] or [np.empty(0)]),
            "rank": pa.array(np.concatenate(rank or [np.empty(0, np.int32)]), pa.int32()),
        }
    )


def cells_table(chunk: Chunk, sample: Labels, quality: Quality, kept: np.ndarray) -> pa.Table:
    """One row for each kept cell (`kept`: their rows)."""
    quality = quality.take(kept)
    share = quality.n_mito / np.maximum(quality.n_counts, 1)
    labels = {name: chunk.labels(name, UNKNOWN) for name in ("dataset_id", "donor_id", "cell_type")}
    return pa.table(
        {
            "cell": chunk.cell[kept],
            "sample": _dictionary(sample.take(kept)),
            **{name: _dictionary(column.take(kept)) for name, column in labels.items()},
            "soma_joinid": chunk.numbers("soma_joinid")[kept].astype(np.int64),
            "n_counts": quality.n_counts,
            "n_genes": quality.n_genes,
            "pct_mito": (100 * share).astype(np.float32),
        }
    )


def _dictionary(labels: Labels) -> pa.DictionaryArray:
    texts = Labels.of(labels.texts())  # sorted, and names without a cell gone: the same bytes for the same cells
    return pa.DictionaryArray.from_arrays(pa.array(texts.codes), pa.array(texts.names, pa.string()))


def report_on_samples(
    samples: tuple[str, ...], n_cells: np.ndarray, n_selected: np.ndarray, spans: dict[int, float | None], n_top: int
) -> None:
    """Log which samples have no cells, fewer genes than asked for, or a trend that loess could not fit as asked."""
    for s, name in enumerate(samples):
        if n_cells[s] == 0:
            logger.warning("sample %s: no cell is left after filter.min_genes_per_cell; it is skipped", name)
            continue
        if n_selected[s] < n_top:
            logger.info("sample %s: %d genes instead of %d, for it expresses no more", name, n_selected[s], n_top)
        if n_cells[s] == 1:
            logger.warning("sample %s: one cell has no variance; its genes are taken in the order of their ids", name)
    for s, used in spans.items():
        if used is None:
            logger.warning("sample %s: loess found no fit at any span; a parabola stands in for it", samples[s])
        else:
            logger.warning("sample %s: loess failed at hvg.span; %g was used", samples[s], used)


def run(args: argparse.Namespace) -> None:
    """Drop poor cells and rank the highly variable genes of each sample of a chunk."""
    genes = Genes.read(args.genes)
    with open_chunk(args.chunk) as chunk:
        sample = Labels.of(chunk.labels("sample").texts())
        job = Passes(chunk, genes.of_columns(chunk), sample.codes.copy())
        sums = np.zeros((len(sample.names), len(genes), 2))
        by_counts = args.hvg_flavor in hvg.COUNT_FLAVORS
        # seurat takes logarithms later, of the means: its moments are those of the values themselves
        log1p = args.normalize_log1p == "true" and args.hvg_flavor != "seurat"
        normalize = None if by_counts else partial(normalised, target_sum=args.normalize_target_sum, log1p=log1p)
        quality = first_pass(job, genes, sums, min_genes=args.filter_min_genes_per_cell, normalize=normalize)
        n_cells = np.bincount(job.group[job.group >= 0], minlength=len(sample.names))
        expressed = sums[:, :, 0] > 0
        spans: dict[int, float | None] = {}
        if by_counts:
            scores, spans = score_by_clipped_variance(job, sums, n_cells, expressed, args.hvg_span)
            spans = {s: used for s, used in spans.items() if used != args.hvg_span}
        else:
            scores = score_by_dispersion(sums, n_cells, expressed, args.hvg_flavor)
        selected = hvg_table(scores, sample.names, genes, args.hvg_n_top)
        kept = np.flatnonzero(job.group >= 0)
        cells = cells_table(chunk, sample, quality, kept)
    dropped = dict(zip(sample.names, (np.bincount(sample.codes) - n_cells).tolist(), strict=True))
    n_selected = np.minimum(np.count_nonzero(~np.isnan(scores), axis=1), args.hvg_n_top)
    report_on_samples(sample.names, n_cells, n_selected, spans, args.hvg_n_top)
    logger.info("%d of %d cells kept, of %d samples", len(kept), len(job.group), np.count_nonzero(n_cells))
    refits = {sample.names[s]: used for s, used in spans.items()}
    write_table(args.out_hvg, selected.replace_schema_metadata({"refits": json.dumps(refits, sort_keys=True)}))
    write_table(args.out_cells, cells.replace_schema_metadata({"dropped": json.dumps(dropped, sort_keys=True)}))
