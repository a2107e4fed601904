"""Masks: which of a cell's gene positions the model must predict.

A mask hangs on hashes of seed, epoch, cell and gene alone: neither the order of cells or genes, nor shards, batches,
devices or a resumed run change it. `<cls>` and `<pad>` are not in these arrays and so are never masked.
"""

from collections.abc import Callable, Sequence

import numpy as np

from censusformer.hashing import draw as hash_of
from censusformer.hashing import splitmix64, splitmix64_inplace, uniform, word
from censusformer.tokens.cells import Cells, Sequences

_RATIO = word("mask.ratios")
_EVALUATION = word("censusformer evaluation mask")
_BLOCK = 2**14  # tokens


def n_masked(n: np.ndarray | int, ratio: np.ndarray | float) -> np.ndarray:
    """How many of n gene positions are masked: min(n-1, max(1, floor(ratio·n + 0.5))), int64; n >= 2."""
    n = np.asarray(n, np.int64)
    wanted = np.floor(np.asarray(ratio, np.float64) * n + 0.5).astype(np.int64)
    return np.minimum(n - 1, np.maximum(1, wanted))


def mask_tokens(offsets: np.ndarray, scores: np.ndarray, ratios: np.ndarray | float) -> np.ndarray:
    """Mask the tokens with the smallest scores of each cell, exactly `n_masked` of them.

    Parameters
    ----------
    offsets
        int64 (n+1,): the tokens of cell i are offsets[i]:offsets[i+1]; every cell has at least two.
    scores
        uint64 (T,). Scores of different genes of one cell differ, as the hashes below do (splitmix64 is a
        bijection); should two be equal, the earlier token is the smaller.
    ratios
        float64 (n,), or one for all cells.

    Returns
    -------
    bool (T,), True where masked.
    """
    lengths = np.diff(offsets)
    if len(lengths) and lengths.min() < 2:
        raise ValueError("a cell with fewer than two tokens has nothing to mask")
    return smallest(offsets, scores, n_masked(lengths, ratios))


def smallest(offsets: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mark the counts[i] smallest scores of each cell, bool (T,); where two are equal the earlier is the smaller.

    Parameters
    ----------
    offsets, scores
        As in `mask_tokens`; no cell is empty.
    counts
        int64 (n,), from 1 to the cell's tokens.
    """
    return _smallest_by_blocks(offsets, counts, lambda first, last: scores[offsets[first] : offsets[last]])


def _smallest_by_blocks(
    offsets: np.ndarray, counts: np.ndarray, scores: Callable[[int, int], np.ndarray]
) -> np.ndarray:
    """Mark the smallest scores, which a function gives for a range of cells: what is at work stays in the cache."""
    mask = np.empty(offsets[-1], bool)
    if not len(counts):
        return mask
    starts = np.unique(np.searchsorted(offsets, np.arange(0, offsets[-1], _BLOCK), side="right") - 1).tolist()
    for first, last in zip(starts, [*starts[1:], len(counts)], strict=True):
        tokens = slice(offsets[first], offsets[last])
        part = offsets[first : last + 1] - tokens.start
        mask[tokens] = _smallest(part, scores(first, last), counts[first:last])
    return mask


def _smallest(offsets: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Do it by one sort of 32-bit keys: the cell's number, then the upper bits of the score."""
    lengths = np.diff(offsets)
    bits = max(1, int(len(lengths) - 1).bit_length())  # of the number: at most 15, as a block has 2**14 tokens or so
    keys = (scores >> np.uint64(32 + bits)).astype(np.uint32)
    keys |= np.repeat(np.arange(len(lengths), dtype=np.uint32) << np.uint32(32 - bits), lengths)
    threshold = np.sort(keys)[offsets[:-1] + counts - 1]
    mask = keys <= np.repeat(threshold, lengths)
    if np.count_nonzero(mask) == counts.sum():
        return mask
    return _smallest_exactly(offsets, scores, counts)


def _smallest_exactly(offsets: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Do the same where the upper bits of two scores agree: by all bits, then by position."""
    cells = np.repeat(np.arange(len(counts)), np.diff(offsets))
    order = np.lexsort((np.arange(len(scores)), scores, cells))
    mask = np.empty(len(scores), bool)
    mask[order] = np.arange(len(scores)) - offsets[cells] < counts[cells]
    return mask


def training_ratios(cell: np.ndarray, ratios: Sequence[float], draw: str, seed: int, epoch: int) -> np.ndarray:
    """Draw the mask ratio of each cell.

    Parameters
    ----------
    cell
        uint64 (n,): the cells' keys.
    ratios, draw
        `mask.ratios`, and `mask.draw`: `cell` draws one for each cell and epoch, `run` one for the whole run.
    seed, epoch
        `train.seed`, and the epoch from 0.

    Returns
    -------
    float64 (n,).
    """
    if draw not in ("cell", "run"):
        raise ValueError(f"mask.draw is {draw!r}, not cell or run")
    hashes = hash_of(seed, _RATIO) if draw == "run" else hash_of(seed, epoch, cell, _RATIO)
    chosen = np.asarray(ratios, np.float64)[(uniform(hashes) * len(ratios)).astype(np.int64)]
    return np.broadcast_to(chosen, (len(cell),)) if draw == "run" else chosen


def training_mask(
    cells: Cells, gene_words: np.ndarray, ratios: Sequence[float], draw: str, *, seed: int, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the mask of training: from hash(train.seed, epoch, cell, gene).

    Parameters
    ----------
    cells, gene_words
        The cells, each of at least two tokens, and the word of each gene of the vocabulary, uint64 (n_genes,).
    ratios, draw, seed, epoch
        As in `training_ratios`.

    Returns
    -------
    bool (T,), True where masked, and the ratio of each cell, float64 (n,).
    """
    chosen = training_ratios(cells.cell, ratios, draw, seed, epoch)
    scores = _token_hash(hash_of(seed, epoch, cells.cell), cells, gene_words)
    return mask_tokens(cells.offsets, scores, chosen), chosen


def evaluation_mask(cells: Cells, gene_words: np.ndarray, ratio: float) -> np.ndarray:
    """Draw the mask of validation and test, bool (T,): from hash(a constant, cell, gene, ratio) alone."""
    scores = _token_hash(hash_of(_EVALUATION, cells.cell), cells, gene_words)
    return mask_tokens(cells.offsets, splitmix64(scores ^ np.float64(ratio).view(np.uint64)), ratio)


def training_mask_with_cls(
    cells: Sequences, gene_words: np.ndarray, ratios: Sequence[float], draw: str, *, seed: int, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the same mask for cells with their `<cls>`, which is never masked.

    Returns
    -------
    int64 (M,), the masked positions in order, and how many of them each cell has, int64 (n,).
    """
    counts = n_masked(cells.lengths - 1, training_ratios(cells.cell, ratios, draw, seed, epoch))
    words = np.append(gene_words, np.uint64(0))  # <cls> follows the genes
    cell_hash = hash_of(seed, epoch, cells.cell)

    def scores(first: int, last: int) -> np.ndarray:
        hashes = _token_hash(cell_hash[first:last], cells.part(first, last), words)
        hashes[cells.offsets[first:last] - cells.offsets[first]] = np.iinfo(np.uint64).max
        return hashes

    return np.flatnonzero(_smallest_by_blocks(cells.offsets, counts, scores)), counts


def _token_hash(cell_hash: np.ndarray, cells: Cells | Sequences, gene_words: np.ndarray) -> np.ndarray:
    """One more word, the gene's, chained to each cell's hash: uint64 (T,)."""
    words = gene_words.take(cells.genes.astype(np.intp))  # by 16 bits it takes eight times as long
    words ^= np.repeat(cell_hash, cells.lengths)
    return splitmix64_inplace(words)
