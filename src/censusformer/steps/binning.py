"""Read a chunk, its kept cells and its samples' genes; write their expression as bins (`binned/{chunk}.h5ad`)."""

import argparse
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from censusformer.errors import InputError
from censusformer.expression.binning import Binned, Binning, bin_rows
from censusformer.expression.normalize import normalised
from censusformer.hashing import to_hex
from censusformer.steps._chunks import Chunk, Rows, open_chunk
from censusformer.steps._genes import Genes
from censusformer.steps._h5ad import UNKNOWN, write_chunk
from censusformer.steps._options import add_normalize_arguments, whole_number
from censusformer.steps._selection import Selection, read_selection
from censusformer.steps._tables import read_table

logger = logging.getLogger("censusformer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the step's options."""
    add = parser.add_argument
    add("--chunk", type=Path, required=True, help="the chunk's raw counts, census/{chunk}.h5ad")
    add("--genes", type=Path, required=True, help="the kept genes, genes.parquet")
    add("--hvg", type=Path, required=True, help="each sample's genes, hvg/{chunk}.parquet")
    add("--cells", type=Path, required=True, help="the kept cells, cells/{chunk}.parquet")
    add("--shared-hvg", type=Path, help="hvg_shared.parquet, if all samples share one list (hvg.scope: all)")
    add("--edges", type=Path, help="edges.parquet, which binning.method global needs")
    add("--binning-method", choices=("cell", "global"), default="cell", help="quantiles of each cell, or of all cells")
    add("--binning-n-bins", type=whole_number(3), default=51, help="number of bins, that of zeros included")
    add("--binning-ties", choices=("random", "middle"), default="random", help="the bin of a value on several edges")
    add("--binning-seed", type=whole_number(0), default=0, help="seed of the draws among them")
    add_normalize_arguments(parser)
    add("--out", type=Path, required=True, help="where the bins go, an h5ad file")


def settings(args: argparse.Namespace) -> Binning:
    """Gather how to bin, with the edges where they are shared."""
    edges = np.empty(0)
    if args.binning_method == "global":
        if args.edges is None:
            raise InputError("binning.method global needs --edges, the file of the step edges")
        edges = read_table(args.edges, ["edge"])["edge"].to_numpy().astype(float)  # a copy: kernels want it writable
        if len(edges) != args.binning_n_bins - 1:
            raise InputError(f"{args.edges} has {len(edges)} edges for {args.binning_n_bins} bins; run `edges` again")
    return Binning(
        n_bins=args.binning_n_bins,
        ties=args.binning_ties,
        seed=args.binning_seed,
        edges=edges,
    )


def bin_chunk(
    chunk: Chunk, genes: Genes, selection: Selection, how: Binning, normalize: Callable[..., np.ndarray]
) -> Binned:
    """Bin all rows of a chunk, block by block; dropped cells are empty rows."""

    def values(rows: Rows) -> np.ndarray | None:
        if not len(how.edges):
            return None
        return normalize(rows.indptr, rows.data, selection.total[rows.slice]).astype(np.float32)

    gene_of, words = genes.of_columns(chunk), genes.words_of(selection.chosen.any(axis=0))
    parts = [
        bin_rows(
            (rows.indptr, rows.indices, rows.data),
            gene_of,
            selection.group[rows.slice],
            selection.chosen,
            cell=chunk.cell[rows.slice],
            gene_words=words,
            how=how,
            values=values(rows),
        )
        for rows in chunk.rows()
    ]
    lengths = [np.diff(part.indptr) for part in parts]
    return Binned(
        np.concatenate([[0], np.cumsum(np.concatenate([np.empty(0, np.int64), *lengths]))]),
        np.concatenate([np.empty(0, np.int32), *(part.genes for part in parts)]),
        np.concatenate([np.empty(0, np.uint16), *(part.bins for part in parts)]),
        np.concatenate([np.empty(0, np.float32), *(part.tie_var for part in parts)]),
    )


def run(args: argparse.Namespace) -> None:
    """Bin the expression of a chunk's kept cells."""
    how, genes = settings(args), Genes.read(args.genes)
    log1p = args.normalize_log1p == "true"
    normalize = partial(normalised, target_sum=args.normalize_target_sum, log1p=log1p)
    with open_chunk(args.chunk) as chunk:
        selection = read_selection(chunk, genes, args.hvg, args.cells, args.shared_hvg)
        binned = bin_chunk(chunk, genes, selection, how, normalize)
        kept = np.flatnonzero(selection.group >= 0)
        labels = {name: chunk.labels(name, UNKNOWN) for name in ("sample", "dataset_id", "cell_type")}
        names = to_hex(chunk.cell[kept])
    indptr = np.concatenate([[0], binned.indptr[kept + 1]])  # empty rows take no room: they only go
    write_chunk(
        args.out,
        (indptr, binned.genes, binned.bins.astype(np.uint8 if how.n_bins <= 256 else np.uint16)),
        obs={
            **{name: column.take(kept).tidy() for name, column in labels.items()},
            "tie_var": binned.tie_var[kept],
        },
        var={"feature_name": np.array(genes.feature_name, dtype=object)},
        obs_names=names,
        var_names=genes.feature_id,
    )
    logger.info("%d cells, %.1f values a cell", len(kept), len(binned.bins) / max(len(kept), 1))
