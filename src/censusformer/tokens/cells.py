"""Tokenised cells in flat arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_LONG = 192  # tokens of a piece, on average, from which slices are faster


@dataclass(frozen=True)
class Categories:
    """A column of labels: `names[codes]`.

    Parameters
    ----------
    codes
        int32 (n,), each a position in `names`.
    names
        The labels; a name may stand there without a cell.
    """

    codes: np.ndarray
    names: tuple[str, ...]

    @classmethod
    def of(cls, labels: Sequence[str] | np.ndarray) -> "Categories":
        """Categories of one label a cell, names sorted."""
        names, codes = np.unique(np.asarray(labels, dtype=object).astype(str), return_inverse=True)
        return cls(codes.astype(np.int32), tuple(names.tolist()))

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: np.ndarray) -> "Categories":
        """Take the labels of these rows; names stay as they are."""
        return Categories(self.codes[rows], self.names)

    def tidy(self) -> "Categories":
        """Keep the names that occur, sorted: one form for one content."""
        used, codes = np.unique(self.codes, return_inverse=True)
        order = sorted(range(len(used)), key=lambda i: self.names[used[i]])
        position = np.empty(len(used), np.int32)
        position[order] = np.arange(len(used), dtype=np.int32)
        return Categories(position[codes], tuple(self.names[used[i]] for i in order))

    def labels(self) -> np.ndarray:
        """One label a cell, object (n,)."""
        return np.array(self.names, dtype=object)[self.codes] if self.names else np.empty(0, dtype=object)


@dataclass(frozen=True)
class Cells:
    """Tokenised cells; `<cls>` and `<pad>` are a matter of the batch and not stored.

    Parameters
    ----------
    cell
        uint64 (n,): the cells' keys.
    offsets
        int64 (n+1,): the tokens of cell i are offsets[i]:offsets[i+1].
    genes
        uint16 or uint32 (T,): gene ids of the vocabulary.
    values
        uint8 or uint16 (T,): bins, 1..n_bins-1.
    tie_var
        float32 (n,): the variance that the draw among tied bins puts on a token, mean over the cell's, in bins².
    sample, dataset_id, cell_type
        Labels of the n cells.
    """

    cell: np.ndarray
    offsets: np.ndarray
    genes: np.ndarray
    values: np.ndarray
    tie_var: np.ndarray
    sample: Categories
    dataset_id: Categories
    cell_type: Categories

    def __len__(self) -> int:
        return len(self.cell)

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each cell, int64 (n,)."""
        return np.diff(self.offsets)

    @property
    def n_tokens(self) -> int:
        """Tokens of all cells."""
        return int(self.offsets[-1])

    def tokens_of(self, rows: np.ndarray) -> np.ndarray:
        """Positions of these cells' tokens in `genes` and `values`, int64, cell after cell."""
        return gather_ragged(self.offsets, rows)[1]

    def take(self, rows: np.ndarray) -> "Cells":
        """Take the cells of these rows (int64 (k,), or a bool mask), in the order given."""
        rows = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows, np.int64)
        offsets, tokens = gather_ragged(self.offsets, rows)
        labels = (column.take(rows) for column in (self.sample, self.dataset_id, self.cell_type))
        flat = self.genes[tokens], self.values[tokens], self.tie_var[rows]
        return Cells(self.cell[rows], offsets, *flat, *labels)


@dataclass(frozen=True)
class Sequences:
    """Cells as the model reads them: `<cls>`, then the genes; no labels.

    Parameters
    ----------
    cell, offsets, genes, values
        As of `Cells`, with T tokens including `<cls>`, whose value is 0.
    """

    cell: np.ndarray
    offsets: np.ndarray
    genes: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.cell)

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each cell, `<cls>` included, int64 (n,)."""
        return np.diff(self.offsets)

    def take(self, rows: np.ndarray) -> "Sequences":
        """Take the cells of these rows (int64), in the order given."""
        starts, stops = self.offsets[rows], self.offsets[rows + 1]
        offsets = _offsets_of(stops - starts)
        return Sequences(self.cell[rows], offsets, *gather((self.genes, self.values), starts, stops, offsets))

    def part(self, start: int, stop: int) -> "Sequences":
        """The cells start..stop-1, without a copy of their tokens."""
        tokens, offsets = slice(self.offsets[start], self.offsets[stop]), self.offsets[start : stop + 1]
        return Sequences(self.cell[start:stop], offsets - tokens.start, self.genes[tokens], self.values[tokens])


def join(parts: Sequence[Sequences]) -> Sequences:
    """One set of sequences out of several, in order."""
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0] + [len(part.genes) for part in parts])
    offsets = [part.offsets[:-1] + start for part, start in zip(parts, starts, strict=False)]
    flat = (np.concatenate([getattr(part, name) for part in parts]) for name in ("cell", "genes", "values"))
    cell, genes, values = flat
    return Sequences(cell, np.concatenate([*offsets, starts[-1:]]), genes, values)


def sequences(cells: Cells, rows: np.ndarray, cls: int) -> Sequences:
    """Gather some cells, `<cls>` before each, in one pass over the tokens."""
    starts, stops = cells.offsets[rows] - 1, cells.offsets[rows + 1]  # where <cls> would lie; what lies there is
    offsets = _offsets_of(stops - starts)  # overwritten
    genes, values = gather((cells.genes, cells.values), starts, stops, offsets)
    genes[offsets[:-1]], values[offsets[:-1]] = cls, 0
    return Sequences(cells.cell[rows], offsets, genes, values)


def gather(
    flat: tuple[np.ndarray, ...], starts: np.ndarray, stops: np.ndarray, offsets: np.ndarray
) -> list[np.ndarray]:
    """The items starts[i]..stops[i]-1 of some arrays, one after the other; a start may be -1, before the first item.

    Long pieces are copied as slices, short ones by the index of each item: a slice costs 200 ns, an item 3 ns.
    """
    if offsets[-1] < _LONG * len(starts):
        items = np.repeat(starts - offsets[:-1], stops - starts)
        items += np.arange(offsets[-1])
        return [array[items] for array in flat]
    before, ends = np.flatnonzero(starts < 0), list(zip(starts.tolist(), stops.tolist(), strict=True))
    gathered = []
    for array in flat:
        pieces = [array[start:stop] for start, stop in ends]
        for i in before:
            pieces[i] = np.concatenate((array[-1:], array[: stops[i]]))
        gathered.append(np.concatenate(pieces))
    return gathered


def _offsets_of(lengths: np.ndarray) -> np.ndarray:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def gather_ragged(offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets of the chosen rows, int64 (k+1,), and the positions of their items, int64."""
    starts, lengths = offsets[rows], offsets[rows + 1] - offsets[rows]
    new = _offsets_of(lengths)
    return new, np.repeat(starts - new[:-1], lengths) + np.arange(new[-1])


def concat(parts: Sequence[Cells]) -> Cells:
    """One set of cells out of several, in order; labels are matched by name."""
    if not parts:
        raise ValueError("nothing to concatenate")
    starts = np.cumsum([0] + [len(part.genes) for part in parts])
    offsets = [part.offsets[:-1] + start for part, start in zip(parts, starts, strict=False)]
    flat = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in ("cell", "genes", "values", "tie_var")
    }
    labels = {
        name: _concat_categories([getattr(part, name) for part in parts])
        for name in ("sample", "dataset_id", "cell_type")
    }
    return Cells(offsets=np.concatenate([*offsets, starts[-1:]]).astype(np.int64), **flat, **labels)


def _concat_categories(parts: list[Categories]) -> Categories:
    names = tuple(sorted({name for part in parts for name in part.names}))
    position = {name: i for i, name in enumerate(names)}
    codes = [np.array([position[name] for name in part.names], np.int32)[part.codes] for part in parts if len(part)]
    return Categories(np.concatenate([np.empty(0, np.int32), *codes]), names)
