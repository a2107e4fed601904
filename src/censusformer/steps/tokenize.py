"""Reads a chunk's bins and its split, writes one shard a split: rows of variable length, shuffled by seed."""

import argparse
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa

from censusformer.errors import InputError
from censusformer.hashing import draw, to_hex
from censusformer.steps._cells import rows_of
from censusformer.steps._chunks import Chunk, open_chunk
from censusformer.steps._h5ad import Labels
from censusformer.steps._tables import read_table
from censusformer.tokens.cells import Categories, Cells
from censusformer.tokens.shards import ShardMeta, gene_dtype, value_dtype, write_shard
from censusformer.tokens.vocabulary import sha256_of

logger = logging.getLogger("censusformer")
SPLITS = ("train", "valid", "test")
UNKNOWN = "unknown"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this step."""
    parser.add_argument("--binned", type=Path, required=True, help="the chunk's bins, an h5ad file")
    parser.add_argument("--split", type=Path, required=True, help="the split of the chunk's cells")
    parser.add_argument("--genes", type=Path, required=True, help="the kept genes, in the order of the vocabulary")
    parser.add_argument("--tokenize-min-genes", type=int, default=10, help="cells with fewer tokens are dropped, >= 2")
    parser.add_argument("--tokenize-seed", type=int, default=0, help="seed of the order of the rows")
    parser.add_argument("--binning-n-bins", type=int, default=51, help="bins with the zero")
    parser.add_argument("--hvg-n-top", type=int, default=1200, help="the most genes that a sample selects")
    for name in SPLITS:
        parser.add_argument(f"--out-{name}", type=Path, required=True, help=f"shard of the {name} cells to write")


def run(args: argparse.Namespace) -> None:
    """Write the shards of one chunk; a split without cells is a file without rows."""
    if args.tokenize_min_genes < 2:
        raise InputError(f"tokenize.min_genes is {args.tokenize_min_genes}: a cell needs at least 2 tokens to mask one")
    ids = read_table(args.genes, ["feature_id"])["feature_id"].to_pylist()
    with open_chunk(args.binned) as chunk:
        if chunk.feature_id.tolist() != ids:
            raise InputError(f"{args.binned} has other genes than {args.genes}: delete it and run snakemake again")
        cells = _read_cells(chunk, gene_dtype(len(ids)), value_dtype(args.binning_n_bins))
    _check(cells, args)
    split, enough = _split_of(cells.cell, args), cells.lengths >= args.tokenize_min_genes
    for i, name in enumerate(SPLITS):
        here = split == i
        dropped = int(np.count_nonzero(here & ~enough))
        meta = ShardMeta(args.binning_n_bins, args.hvg_n_top + 1, sha256_of(ids), dropped)
        shard = cells.take(shuffled(cells.cell, np.flatnonzero(here & enough), args.tokenize_seed))
        write_shard(getattr(args, f"out_{name}"), shard, meta)
        if np.any(here):
            logger.info("%s: %d cells, %d tokens, %d cells dropped with fewer than %d tokens",
                        name, len(shard), len(shard.genes), dropped, args.tokenize_min_genes)  # fmt: skip


def shuffled(cell: np.ndarray, rows: np.ndarray, seed: int) -> np.ndarray:
    """Order rows by hash(seed, cell), so that the order of the chunk plays no part."""
    return rows[np.lexsort((cell[rows], draw(seed, cell[rows])))]


def _read_cells(chunk: Chunk, genes: type, values: type) -> Cells:
    """Read a whole chunk; gene ids rise within a cell."""
    offsets, gene_parts, value_parts = [np.zeros(1, np.int64)], [np.empty(0, genes)], [np.empty(0, values)]
    for rows in chunk.rows():
        order = _by_gene(rows.indptr, rows.indices)
        bins = rows.data[order]
        if bins.max(initial=0) > np.iinfo(values).max:
            raise InputError(f"{chunk.path} has bins over binning.n_bins: delete it and run snakemake again")
        offsets.append(rows.indptr[1:] + offsets[-1][-1])
        gene_parts.append(rows.indices[order].astype(genes))
        value_parts.append(bins.astype(values))
    return Cells(
        cell=chunk.cell,
        offsets=np.concatenate(offsets),
        genes=np.concatenate(gene_parts),
        values=np.concatenate(value_parts),
        tie_var=chunk.numbers("tie_var").astype(np.float32),
        sample=_categories(chunk.labels("sample")),
        dataset_id=_categories(chunk.labels("dataset_id")),
        cell_type=_categories(chunk.labels("cell_type", UNKNOWN)),
    )


def _by_gene(indptr: np.ndarray, indices: np.ndarray) -> np.ndarray | slice:
    """Give the order that sorts the genes within each row; nothing to do where they are sorted."""
    rises = np.diff(indices.astype(np.int64)) > 0
    inner = indptr[1:-1]
    rises[inner[(inner > 0) & (inner < len(indices))] - 1] = True
    return slice(None) if rises.all() else np.lexsort((indices, np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))))


def _categories(labels: Labels) -> Categories:
    """Turn a column of the chunk into labels of a shard; a missing label reads `unknown`."""
    tidy = labels.tidy()
    return Categories(tidy.codes, tidy.names)


def _check(cells: Cells, args: argparse.Namespace) -> None:
    low, high = int(cells.values.min(initial=1)), int(cells.values.max(initial=1))
    if low < 1 or high >= args.binning_n_bins:
        raise InputError(
            f"{args.binned} has bins from {low} to {high}; binning.n_bins {args.binning_n_bins} allows "
            f"1 to {args.binning_n_bins - 1}: delete it and run snakemake again"
        )
    longest = int(cells.lengths.max(initial=0))
    if longest > args.hvg_n_top:
        raise InputError(
            f"{args.binned} has a cell of {longest} genes, over hvg.n_top ({args.hvg_n_top}): "
            "delete it and run snakemake again"
        )


def _split_of(cell: np.ndarray, args: argparse.Namespace) -> np.ndarray:
    """Look up each cell's split, int64 (n,): a position in `SPLITS`."""
    table = read_table(args.split, ["cell", "split"])
    keys, names = table["cell"].to_numpy(), table["split"].cast(pa.string()).to_numpy()
    rows, found = rows_of(keys, cell)
    if not found.all():
        example = to_hex(cell[~found][:1])[0]
        raise InputError(f"{args.binned}: cell {example} has no split in {args.split}: delete both and run again")
    return np.select([names == name for name in SPLITS], range(len(SPLITS)))[rows]
