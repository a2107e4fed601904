"""The order of an epoch, and training cells that do not fit into memory: a window that moves over their shards.

An epoch visits the shards in an order of its own, in a circle. Each is cut into as many parts as shards are open, its
rows shuffled, and each round gives one part of every open shard, shuffled again; then the oldest is closed and the next
is opened. So every round mixes as many shards as memory holds, from the first to the last, and any round can be made
without those before it: a resumed run goes on inside the epoch. The order depends on (seed, epoch) and on the number of
open shards.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from censusformer.errors import InputError
from censusformer.hashing import draw, word
from censusformer.tokens.cells import Cells, Sequences, concat, join, sequences
from censusformer.tokens.shards import gene_dtype, read_listed, read_shard, value_dtype
from censusformer.tokens.vocabulary import Vocabulary

_ORDER, _FIXED = word("order of an epoch"), word("train_fixed")
_SHARDS, _WITHIN = word("order of the shards"), word("order within a shard")
_CELL_BYTES = 40  # key, offset, codes of labels, tie_var
_ROOM = 4  # shards that are held beside the open ones: one being decoded and shuffled, one round
_PIECE = 1024  # cells gathered at once


def epoch_order(cell: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Order of the cells in an epoch, int64 (n,): by hash(seed, epoch, cell), so that shards do not matter."""
    return np.lexsort((cell, draw(_ORDER, seed, epoch, cell)))


def fixed_cells(cell: np.ndarray, n: int) -> np.ndarray:
    """Rows of n cells chosen by hash of their keys alone, int64: the same training cells at every evaluation."""
    return np.sort(np.argsort(draw(_FIXED, cell), kind="stable")[:n])


def gene_sums(cells: Cells, n_genes: int) -> tuple[np.ndarray, np.ndarray]:
    """How many tokens each gene has, and the sum of their bins: float64 (n_genes,) each, whole numbers."""
    count = np.bincount(cells.genes, minlength=n_genes).astype(float)
    return count, np.bincount(cells.genes, weights=cells.values, minlength=n_genes)


def mean_bins(count: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Mean bin of each gene where it is expressed, float64 (n_genes,); a gene never seen gets the mean of all."""
    return np.where(count > 0, total / np.maximum(count, 1), total.sum() / max(1, count.sum()))


def decoded_bytes(file: dict, n_genes: int, n_bins: int) -> int:
    """Bytes of a shard's arrays, from its entry in `shards.json`."""
    token = np.dtype(gene_dtype(n_genes)).itemsize + np.dtype(value_dtype(n_bins)).itemsize
    return file["tokens"] * token + file["rows"] * _CELL_BYTES


def open_shards(files: list[dict], n_genes: int, n_bins: int, memory: float) -> int:
    """How many shards can be open at once in `memory` GB.

    Raises
    ------
    InputError
        Where not even one can.
    """
    largest = max(decoded_bytes(file, n_genes, n_bins) for file in files)
    n = min(len(files), int(memory * 1e9 / max(1, largest)) - _ROOM)
    if n < 1:
        needed = (_ROOM + 1) * largest / 1e9
        raise InputError(
            f"execution.memory {memory:g} GB: the largest shard takes {largest / 1e9:.3g} GB, and {needed:.3g} GB are "
            "the least; raise it, or lower chunk.cells"
        )
    return n


@dataclass(frozen=True)
class Window:
    """Training cells on disk.

    Parameters
    ----------
    manifest
        `shards.json`.
    files
        Its entries of the split, those without cells left out.
    vocabulary
        Theirs.
    n_open
        Shards that are open at once.
    """

    manifest: Path
    files: tuple[dict, ...]
    vocabulary: Vocabulary
    n_open: int

    def __len__(self) -> int:
        return sum(file["rows"] for file in self.files)

    @property
    def n_tokens(self) -> int:
        """Tokens of all cells."""
        return sum(file["tokens"] for file in self.files)

    def scan(self, n_fixed: int) -> tuple[Cells, np.ndarray, np.ndarray]:
        """Read every shard once, checking it.

        Returns
        -------
        The cells of `fixed_cells`, and both of `gene_sums`.
        """
        chosen: list[Cells] = []
        count, total = np.zeros((2, self.vocabulary.n_genes))
        for file in self.files:
            cells = read_listed(self.manifest, file, self.vocabulary)
            sums = gene_sums(cells, len(count))
            count, total = count + sums[0], total + sums[1]
            chosen.append(cells.take(fixed_cells(cells.cell, n_fixed)))
        few = concat(chosen)
        return few.take(fixed_cells(few.cell, n_fixed)), count, total

    def pieces(self, seed: int, epoch: int, first: int = 0) -> Iterator[Sequences]:
        """The cells of an epoch in their order, from cell `first` on, in pieces."""
        order = np.argsort(draw(_SHARDS, seed, epoch, np.arange(len(self.files))), kind="stable")
        sizes = [self._sizes(order, r).sum() for r in range(len(order))]
        ends = np.cumsum(sizes)
        start = int(np.searchsorted(ends, first, side="right"))
        skip = first - int(ends[start - 1]) if start else first
        opened: dict[int, Sequences] = {}
        for r in range(start, len(order)):
            opened = {p: opened.get(p) or self._open(order[p], seed, epoch) for p in self._open_in(r, len(order))}
            mixed = join([self._part(opened[p], q) for q, p in enumerate(self._open_in(r, len(order)))])
            rows = epoch_order(mixed.cell, seed, epoch)[skip:]
            skip = 0
            yield from (mixed.take(rows[i : i + _PIECE]) for i in range(0, len(rows), _PIECE))

    def _open_in(self, r: int, n: int) -> list[int]:
        """Shards of round r by their place in the epoch's order; the i-th gives its part i."""
        return [(r - q) % n for q in range(self.n_open)]

    def _cuts(self, rows: int) -> np.ndarray:
        return np.arange(self.n_open + 1) * rows // self.n_open

    def _sizes(self, order: np.ndarray, r: int) -> np.ndarray:
        """Cells that each open shard gives to round r."""
        shards = enumerate(self._open_in(r, len(order)))
        return np.array([np.diff(self._cuts(self.files[order[p]]["rows"]))[q] for q, p in shards])

    def _part(self, shard: Sequences, q: int) -> Sequences:
        cuts = self._cuts(len(shard))
        return shard.part(int(cuts[q]), int(cuts[q + 1]))

    def _open(self, number: int, seed: int, epoch: int) -> Sequences:
        """Decode a shard, rows shuffled; by another hash than the rounds, which would undo their mixing."""
        cells, _ = read_shard(self.manifest.parent / self.files[number]["path"], self.vocabulary)
        rows = np.lexsort((cells.cell, draw(_WITHIN, seed, epoch, cells.cell)))
        return sequences(cells, rows, self.vocabulary.cls)
