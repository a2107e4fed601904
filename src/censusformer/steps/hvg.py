"""Read a chunk and the kept genes; write its kept cells with QC, and each sample's highly variable genes.

`cells/{chunk}.parquet` has a row for each cell that expresses enough of the kept genes, `hvg/{chunk}.parquet` a row for
each gene that a sample selected. One pass over the chunk serves all its samples.
"""

import argparse
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from censusformer.expression import hvg, moments
from censusformer.expression.normalize import normalised
from censusformer.steps._chunks import Chunk, open_chunk
from censusformer.steps._genes import Genes
from censusformer.steps._h5ad import UNKNOWN, Labels
from censusformer.steps._options import add_normalize_arguments, share, whole_number
from censusformer.steps._tables import write_table

logger = logging.getLogger("censusformer")


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

    `n_counts` and `n_mito` (mitochondrial counts) are int64, `n_genes` (expressed ones) is int32; `counts_hash` is
    uint64, the same for cells with the same counts.
    """

    n_counts: np.ndarray
    n_genes: np.ndarray
    n_mito: np.ndarray
    counts_hash: np.ndarray

    @classmethod
    def zeros(cls, n: int) -> "Quality":
        """Nothing counted yet."""
        return cls(*(np.zeros(n, kind) for kind in (np.int64, np.int32, np.int64, np.uint64)))

    def take(self, rows: slice | np.ndarray) -> "Quality":
        """Take these rows; a slice is a view."""
        return Quality(self.n_counts[rows], self.n_genes[rows], self.n_mito[rows], self.counts_hash[rows])


@dataclass(frozen=True)
class Counted:
    """What one pass over a chunk gives.

    Parameters
    ----------
    group
        int32 (n_cells,): each row's sample, -1 for a dropped cell.
    quality
        Of all cells.
    columns
        int64 (n_genes,): the column of each kept gene; one that the chunk lacks has the last, which is empty.
    ones, large
        Counts by sample and column, as `moments.count_cells` splits them.
    sums
        float64 (n_samples, n_genes, 2): sums of normalised values and of their squares, for flavours that need them.
    """

    group: np.ndarray
    quality: Quality
    columns: np.ndarray
    ones: np.ndarray
    large: list[tuple[np.ndarray, np.ndarray]]
    sums: np.ndarray

    def over(self, limit: np.ndarray) -> np.ndarray:
        """Number, sum and sum of squares of the counts over `limit`, both by sample and column; (…, 3)."""
        return moments.add_over(self.ones, self.large, limit)

    @cached_property
    def moments(self) -> np.ndarray:
        """Sums of counts and of their squares, float64 (n_samples, n_columns, 2)."""
        return self.over(np.zeros(self.ones.shape))[:, :, 1:]


def count_chunk(
    chunk: Chunk, genes: Genes, sample: Labels, *, min_genes: int, normalize: Callable[..., np.ndarray] | None
) -> Counted:
    """Go through a chunk once: cells' quality, which of them are kept, and the counts of their samples' genes."""
    gene_of, group, quality = genes.of_columns(chunk), sample.codes.copy(), Quality.zeros(chunk.n_cells)
    is_kept, columns = gene_of >= 0, np.full(len(genes), chunk.n_genes)
    columns[gene_of[is_kept]] = np.flatnonzero(is_kept)
    names = pa.array(chunk.feature_name, pa.string())
    is_mito = pc.starts_with(names, "MT-", ignore_case=True).to_numpy(zero_copy_only=False) & is_kept
    word = np.append(genes.words_of(columns < chunk.n_genes), np.uint64(0))[gene_of]  # 0 for a column that is not kept
    ones, large = np.zeros((len(sample.names), chunk.n_genes + 1), np.int32), []
    sums = np.zeros((len(sample.names), len(genes), 2) if normalize else (0, 0, 2))
    room = np.empty(0, np.int64), np.empty(0, np.uint32)
    for rows in chunk.rows():
        one, here = quality.take(rows.slice), group[rows.slice]
        if len(rows.data) > len(room[0]):
            room = np.empty(len(rows.data), np.int64), np.empty(len(rows.data), np.uint32)
        block, quantities = (rows.indptr, rows.indices, rows.data), (one.n_counts, one.n_genes, one.n_mito)
        moments.hash_counts(*block, word, one.counts_hash)
        n = moments.count_cells(*block, is_kept, is_mito, min_genes, here, *quantities, ones, *room)
        if normalize is None:
            large.append(tuple(array[:n].copy() for array in room))
        else:
            values = normalize(rows.indptr, rows.data, one.n_counts)
            moments.add_moments(rows.indptr, rows.indices, values, gene_of, here, sums)
    return Counted(group, quality, columns, ones, large, sums)


def score_by_dispersion(sums: np.ndarray, n_cells: np.ndarray, expressed: np.ndarray, flavor: str) -> np.ndarray:
    """Score each sample's genes, float64 (n_samples, n_genes); NaN for those that it does not express."""
    scores = np.full(sums.shape[:2], np.nan)
    for s in np.flatnonzero(n_cells):
        on = expressed[s]
        mean, variance = hvg.mean_variance(n_cells[s], *sums[s, on].T)
        scores[s, on] = hvg.dispersion_scores(mean, variance, flavor)
    return scores


def score_by_clipped_variance(
    counted: Counted, n_cells: np.ndarray, expressed: np.ndarray, span: float
) -> tuple[np.ndarray, dict[int, float | None]]:
    """Score each sample's genes as `score_by_dispersion`; and the spans that loess ended with."""
    trends: dict[int, hvg.Trend] = {}
    clip = np.full(counted.ones.shape, np.inf)
    for s in np.flatnonzero(n_cells):
        on = counted.columns[expressed[s]]
        mean, variance = hvg.mean_variance(n_cells[s], *counted.moments[s][on].T)
        trends[s] = hvg.variance_trend(mean, variance, span)
        clip[s, on] = hvg.clip_values(n_cells[s], mean, trends[s])
    clipped = counted.over(clip)
    scores = np.full(expressed.shape, np.nan)
    for s, trend in trends.items():
        on = counted.columns[expressed[s]]
        found = hvg.seurat_v3_scores(n_cells[s], counted.moments[s][on], trend, clipped[s][on])
        scores[s, expressed[s]] = found
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
            "counts_hash": quality.counts_hash,
        }
    )


def _dictionary(labels: Labels) -> pa.DictionaryArray:
    texts = labels.tidy()  # sorted, and names without a cell gone: the same bytes for the same cells
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
        sample = chunk.labels("sample").tidy()
        by_counts = args.hvg_flavor in hvg.COUNT_FLAVORS
        # seurat takes logarithms later, of the means: its moments are those of the values themselves
        log1p = args.normalize_log1p == "true" and args.hvg_flavor != "seurat"
        normalize = None if by_counts else partial(normalised, target_sum=args.normalize_target_sum, log1p=log1p)
        counted = count_chunk(chunk, genes, sample, min_genes=args.filter_min_genes_per_cell, normalize=normalize)
        n_cells = np.bincount(counted.group[counted.group >= 0], minlength=len(sample.names))
        spans: dict[int, float | None] = {}
        if by_counts:
            expressed = counted.moments[:, :, 0][:, counted.columns] > 0
            scores, spans = score_by_clipped_variance(counted, n_cells, expressed, args.hvg_span)
            spans = {s: used for s, used in spans.items() if used != args.hvg_span}
        else:
            scores = score_by_dispersion(counted.sums, n_cells, counted.sums[:, :, 0] > 0, args.hvg_flavor)
        selected = hvg_table(scores, sample.names, genes, args.hvg_n_top)
        kept = np.flatnonzero(counted.group >= 0)
        cells = cells_table(chunk, sample, counted.quality, kept)
    dropped = dict(zip(sample.names, (np.bincount(sample.codes) - n_cells).tolist(), strict=True))
    n_selected = np.minimum(np.count_nonzero(~np.isnan(scores), axis=1), args.hvg_n_top)
    report_on_samples(sample.names, n_cells, n_selected, spans, args.hvg_n_top)
    logger.info("%d of %d cells kept, of %d samples", len(kept), len(counted.group), np.count_nonzero(n_cells))
    refits = {sample.names[s]: used for s, used in spans.items()}
    write_table(args.out_hvg, selected.replace_schema_metadata({"refits": json.dumps(refits, sort_keys=True)}))
    write_table(args.out_cells, cells.replace_schema_metadata({"dropped": json.dumps(dropped, sort_keys=True)}))
