"""From tokenised cells to batches: order of an epoch, packing, the padded layout, and a thread that runs ahead.

Everything is a function of (seed, epoch, cell, gene): batches of an epoch can be entered at any step.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from censusformer.model import Packed
from censusformer.tokens.cells import Cells, Sequences, join, sequences
from censusformer.tokens.masking import n_masked, training_mask_with_cls, training_ratios
from censusformer.tokens.vocabulary import CLS_VALUE, MASK_VALUE, Vocabulary
from censusformer.training.settings import MaskSettings
from censusformer.training.window import Window, epoch_order

_BLOCK_TOKENS = 2**18  # tokens packed at once: amortises numpy's overhead over many batches, 10 MB or so
T = TypeVar("T")


class Batch(NamedTuple):
    """Packed cells and what to predict of them: M masked positions."""

    packed: Packed
    positions: Tensor  # int64 (M,), into the tokens
    cells: Tensor  # int64 (M,), the cell of each position
    targets: Tensor  # float32 (M,), bins
    n_masked: int  # positions of the global batch, of which this may be one device's share
    n_cells: int  # cells of the global batch

    def to(self, device: torch.device) -> "Batch":
        """Move the tensors to a device; a GPU does not wait for it where they are pinned."""
        return self if device.type == "cpu" else self._each(lambda x: x.to(device, non_blocking=True))

    def pinned(self) -> "Batch":
        """Copy the tensors to memory that a GPU reads on its own."""
        return self._each(torch.Tensor.pin_memory)

    def parts(self, max_tokens: int | None) -> "list[Batch]":
        """Cut it into runs of cells of at most so many tokens, or of one cell; each still says what the whole has."""
        if max_tokens is None or len(self.packed.genes) <= max_tokens:
            return [self]
        offsets = self.packed.cu_seqlens.numpy().astype(np.int64)
        asked = np.searchsorted(self.positions.numpy(), offsets).tolist()
        return [self._part(start, stop, offsets, asked) for start, stop in runs(offsets, max_tokens)]

    def _part(self, start: int, stop: int, offsets: np.ndarray, asked: list[int]) -> "Batch":
        tokens, masked = slice(offsets[start], offsets[stop]), slice(asked[start], asked[stop])
        genes, values, cu_seqlens, _ = self.packed
        longest = int(np.diff(offsets[start : stop + 1]).max())
        packed = Packed(genes[tokens], values[tokens], cu_seqlens[start : stop + 1] - cu_seqlens[start], longest)
        positions, cells = self.positions[masked] - int(tokens.start), self.cells[masked] - start
        return Batch(packed, positions, cells, self.targets[masked], self.n_masked, self.n_cells)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        *packed, max_length = self.packed
        asked = self.positions, self.cells, self.targets
        return Batch(Packed(*map(change, packed), max_length), *map(change, asked), self.n_masked, self.n_cells)


@dataclass(frozen=True)
class Block:
    """Many cells packed at once, `<cls>` included; batches are slices of it.

    Parameters
    ----------
    genes, values, offsets
        int64 (T,), float32 (T,) with masked values hidden, int64 (n + 1,).
    positions, cells, targets
        The masked positions in order: int64 (M,) token and cell, float32 (M,) bin.
    first
        int64 (n + 1,): the masked positions of cell i are first[i]:first[i+1].
    """

    genes: np.ndarray
    values: np.ndarray
    offsets: np.ndarray
    positions: np.ndarray
    cells: np.ndarray
    targets: np.ndarray
    first: np.ndarray

    def batch(self, start: int, stop: int) -> Batch:
        """Cut the batch of cells start..stop-1."""
        tokens = slice(self.offsets[start], self.offsets[stop])
        masked = slice(self.first[start], self.first[stop])
        cu_seqlens = (self.offsets[start : stop + 1] - tokens.start).astype(np.int32)
        arrays = (self.genes[tokens], self.values[tokens], cu_seqlens)
        asked = (self.positions[masked] - tokens.start, self.cells[masked] - start, self.targets[masked])
        packed = Packed(*map(torch.from_numpy, arrays), int(np.diff(cu_seqlens).max()))
        return Batch(packed, *map(torch.from_numpy, asked), int(masked.stop - masked.start), stop - start)


def pack(cells: Cells, mask: np.ndarray, cls: int) -> Block:
    """Put `<cls>` before each cell and hide the masked values.

    Parameters
    ----------
    cells
        Cells of the vocabulary whose `<cls>` has id `cls`.
    mask
        bool (T,), the gene positions to predict.
    """
    n, lengths = len(cells), cells.lengths
    owner = np.repeat(np.arange(n), lengths)  # cell of each stored token
    place = np.arange(len(owner)) + owner + 1  # its position once each cell has its <cls>
    genes = np.full(len(owner) + n, cls, np.int64)
    values = np.full(len(owner) + n, CLS_VALUE, np.float32)
    genes[place] = cells.genes
    values[place] = np.where(mask, np.float32(MASK_VALUE), cells.values)  # float32: -1 is no uint8
    asked = np.flatnonzero(mask)
    first = np.searchsorted(asked, cells.offsets)
    targets = cells.values[asked].astype(np.float32)
    return Block(genes, values, cells.offsets + np.arange(n + 1), place[asked], owner[asked], targets, first)


def block_of(cells: Sequences, positions: np.ndarray, counts: np.ndarray) -> Block:
    """Hide the masked values of cells that have their `<cls>`.

    Parameters
    ----------
    positions, counts
        The masked positions in order, and how many each cell has.
    """
    values = cells.values.astype(np.float32)
    targets = values[positions]
    values[positions] = MASK_VALUE
    owner, first = np.repeat(np.arange(len(cells)), counts), np.concatenate(([0], counts.cumsum()))
    return Block(cells.genes.astype(np.int64), values, cells.offsets, positions, owner, targets, first)


@dataclass(frozen=True)
class TrainingBatches:
    """The batches of training: `batch_size` cells of one permutation an epoch, masked anew in each.

    Parameters
    ----------
    cells
        All training cells, in any order, or a window over their shards.
    vocabulary
        Theirs.
    mask
        How to mask.
    batch_size
        Cells of a global batch; the last of an epoch may have fewer.
    seed
        Of order and masks.
    rank, world
        This process takes each world-th cell of the batch.
    """

    cells: Cells | Window
    vocabulary: Vocabulary
    mask: MaskSettings
    batch_size: int
    seed: int
    rank: int = 0
    world: int = 1

    def __len__(self) -> int:
        """Steps of an epoch."""
        return math.ceil(len(self.cells) / self.batch_size)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Batches of an epoch (from 0), from batch `first` on."""
        mean = max(1, self.cells.n_tokens // max(1, len(self.cells)) * self.batch_size)
        size = max(1, _BLOCK_TOKENS // mean) * self.batch_size
        start = first * self.batch_size
        if isinstance(self.cells, Window):
            blocks = blocks_of(self.cells.pieces(self.seed, epoch, start), size)
        else:
            order, cls = epoch_order(self.cells.cell, self.seed, epoch), self.vocabulary.cls
            blocks = (sequences(self.cells, order[i : i + size], cls) for i in range(start, len(order), size))
        of_block = self._of_block if self.world == 1 else self._shares
        for cells in blocks:
            yield from of_block(cells, epoch)

    def _of_block(self, cells: Sequences, epoch: int) -> Iterator[Batch]:
        block = self._masked(cells, epoch)
        for start in range(0, len(cells), self.batch_size):
            yield block.batch(start, min(start + self.batch_size, len(cells)))

    def _shares(self, cells: Sequences, epoch: int) -> Iterator[Batch]:
        """Cut the share of this rank out of each batch; a rank without one gets a cell of which nothing is asked."""
        ratios = training_ratios(cells.cell, self.mask.ratios, self.mask.draw, self.seed, epoch)
        counts = n_masked(cells.lengths - 1, ratios)
        place = np.arange(len(cells)) % self.batch_size  # in the batch
        mine = place % self.world == self.rank
        block = self._masked(cells.take(np.flatnonzero(mine)), epoch)
        ends = np.concatenate(([0], mine.cumsum()))
        for start in range(0, len(cells), self.batch_size):
            stop = min(start + self.batch_size, len(cells))
            share = (
                block.batch(ends[start], ends[stop])
                if ends[stop] > ends[start]
                else unasked(cells.part(start, start + 1))
            )
            yield share._replace(n_masked=int(counts[start:stop].sum()), n_cells=stop - start)

    def _masked(self, cells: Sequences, epoch: int) -> Block:
        words, (ratios, draw_by) = self.vocabulary.gene_words, (self.mask.ratios, self.mask.draw)
        return block_of(cells, *training_mask_with_cls(cells, words, ratios, draw_by, seed=self.seed, epoch=epoch))


def unasked(cells: Sequences) -> Batch:
    """A batch of which nothing is to be predicted."""
    return block_of(cells, np.empty(0, np.int64), np.zeros(len(cells), np.int64)).batch(0, len(cells))


def blocks_of(pieces: Iterator[Sequences], size: int) -> Iterator[Sequences]:
    """Put pieces of any length together to blocks of `size` cells; the last may have fewer."""
    waiting: list[Sequences] = []
    for piece in pieces:
        waiting.append(piece)
        if sum(map(len, waiting)) >= size:
            whole = join(waiting)
            last = len(whole) - len(whole) % size
            yield from (whole.part(start, start + size) for start in range(0, last, size))
            waiting = [whole.part(last, len(whole))] if last < len(whole) else []
    if waiting:
        yield join(waiting)


def runs(offsets: np.ndarray, budget: int) -> Iterator[tuple[int, int]]:
    """Cut cells in their order into ranges, as many cells in each as `budget` tokens hold, at least one."""
    start, n = 0, len(offsets) - 1
    while start < n:
        stop = int(np.searchsorted(offsets, offsets[start] + budget, side="right")) - 1
        stop = max(start + 1, min(stop, n))
        yield start, stop
        start = stop


def batches_by_tokens(cells: Cells, mask: np.ndarray, cls: int, budget: int) -> Iterator[Batch]:
    """Cells in their order, as many in a batch as `budget` tokens hold, at least one."""
    for start, stop in runs(cells.offsets, budget):
        tokens = mask[cells.offsets[start] : cells.offsets[stop]]
        yield pack(cells.take(np.arange(start, stop)), tokens, cls).batch(0, stop - start)


def ahead(items: Iterator[T], depth: int = 4) -> Iterator[T]:
    """Let a background thread draw the items, up to `depth` ahead; an error of its comes up here."""
    with ThreadPoolExecutor(1, "batches") as thread:
        waiting = deque(thread.submit(next, items, None) for _ in range(depth))
        while (item := waiting.popleft().result()) is not None:
            waiting.append(thread.submit(next, items, None))
            yield item
