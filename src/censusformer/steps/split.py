"""Reads a chunk's list and its kept cells, writes the split of each kept cell: training, validation or test.

Cells of test samples are test; of the rest, a hash of seed and cell (or sample) decides, so that growth moves no cell.
"""

import argparse
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa

from censusformer.errors import InputError
from censusformer.hashing import draw, to_hex, uniform, words
from censusformer.steps._cells import rows_of
from censusformer.steps._tables import read_table, write_table

logger = logging.getLogger("censusformer")
SPLITS = ("train", "valid", "test")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this step."""
    parser.add_argument("--list", type=Path, required=True, help="the chunk's list: cell, sample, status")
    parser.add_argument("--cells", type=Path, required=True, help="the chunk's kept cells, as step hvg writes them")
    parser.add_argument("--split-valid-fraction", type=float, default=0.03, help="share of validation, over 0, below 1")
    parser.add_argument("--split-by", choices=["cell", "sample"], default="cell", help="what is drawn for validation")
    parser.add_argument("--split-seed", type=int, default=0, help="seed of the draw")
    parser.add_argument("--out", type=Path, required=True, help="Parquet file to write: cell, split")


def run(args: argparse.Namespace) -> None:
    """Split the kept cells of one chunk."""
    if not 0 < args.split_valid_fraction < 1:
        raise InputError(f"split.valid_fraction is {args.split_valid_fraction}: it lies over 0 and below 1")
    listed = read_table(args.list, ["cell", "sample", "status"], part_of=args.list.parent)
    kept = read_table(args.cells, ["cell"])["cell"].to_numpy()
    rows = _rows(listed["cell"].to_numpy(), kept, args)
    sample, status = (_encoded(listed[name]) for name in ("sample", "status"))
    split = assign(
        kept,
        _decoded(status)[rows] == "test",
        _sample_words(sample)[rows] if args.split_by == "sample" else kept,
        fraction=args.split_valid_fraction,
        seed=args.split_seed,
    )
    _write(args.out, kept, split)
    counts = ", ".join(f"{np.count_nonzero(split == i):,} {name}" for i, name in enumerate(SPLITS))
    logger.info("%d cells: %s", len(kept), counts)


def assign(cell: np.ndarray, is_test: np.ndarray, drawn: np.ndarray, *, fraction: float, seed: int) -> np.ndarray:
    """Give each cell its split, int8 (n,): a position in `SPLITS`.

    Parameters
    ----------
    cell
        uint64 (n,): the cells' keys.
    is_test
        bool (n,): whether the cell's sample is held out.
    drawn
        uint64 (n,): the words that the draw hangs on: the cells' keys, or the words of their samples.
    fraction, seed
        A cell that is not test is validation where hash(seed, word) / 2^64 < fraction.
    """
    split = np.zeros(len(cell), np.int8)
    split[uniform(draw(seed, drawn)) < fraction] = SPLITS.index("valid")
    split[is_test] = SPLITS.index("test")
    return split


def _rows(listed: np.ndarray, kept: np.ndarray, args: argparse.Namespace) -> np.ndarray:
    """Find each kept cell's row in the list, int64 (n,)."""
    rows, found = rows_of(listed, kept)
    if not found.all():
        example = to_hex(kept[~found][:1])[0]
        raise InputError(f"{args.cells}: cell {example} is not in {args.list}: delete {args.cells} and run again")
    return rows


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    return column.cast(pa.string()).combine_chunks().dictionary_encode()


def _decoded(column: pa.DictionaryArray) -> np.ndarray:
    return np.array(column.dictionary.to_pylist(), dtype=object)[column.indices.to_numpy()]


def _sample_words(column: pa.DictionaryArray) -> np.ndarray:
    return words(column.dictionary.to_pylist())[column.indices.to_numpy()]


def _write(path: Path, cell: np.ndarray, split: np.ndarray) -> None:
    names = pa.DictionaryArray.from_arrays(pa.array(split), pa.array(SPLITS)).cast(pa.string())
    write_table(path, pa.table({"cell": cell, "split": names}))
