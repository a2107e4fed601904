"""The padded layout of a batch, (cells, max_length), as scGPT and the reference run have it, and the way to packed."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from censusformer.model import Packed
from censusformer.tokens.cells import Cells
from censusformer.tokens.vocabulary import CLS_VALUE, MASK_VALUE, PAD_VALUE, Vocabulary
from censusformer.training.batches import Batch


class Padded(NamedTuple):
    """A batch of B cells, each padded to L positions; position 0 is `<cls>`."""

    genes: Tensor  # int64 (B, L), `<pad>` behind the last gene
    values: Tensor  # float32 (B, L): bins; 0 for `<cls>`, -1 where masked, -2 for `<pad>`
    targets: Tensor  # float32 (B, L): the same before masking
    mask: Tensor  # bool (B, L), True at the positions to predict
    padding: Tensor  # bool (B, L), True at `<pad>`, as `key_padding_mask` takes it


def collate_padded(cells: Cells, mask: np.ndarray, vocabulary: Vocabulary, max_length: int = 1201) -> Padded:
    """Lay cells out in the padded tensors of the brief.

    Parameters
    ----------
    cells
        B tokenised cells.
    mask
        bool (T,), the gene positions to predict, as `tokens.masking` draws it.
    vocabulary
        The cells' own: ids of `<cls>` and `<pad>`.
    max_length
        L, `<cls>` included; n_top + 1 of the data set.

    Raises
    ------
    ValueError
        Where a cell has more than max_length - 1 genes: none is cut off silently.
    """
    lengths = cells.lengths
    if len(cells) and lengths.max() >= max_length:
        raise ValueError(f"a cell of {lengths.max()} genes and <cls> do not fit into max_length {max_length}")
    row = np.repeat(np.arange(len(cells)), lengths)
    column = np.arange(len(row)) - cells.offsets[row] + 1
    genes = np.full((len(cells), max_length), vocabulary.pad, np.int64)
    targets = np.full((len(cells), max_length), PAD_VALUE, np.float32)
    masked = np.zeros((len(cells), max_length), bool)
    genes[:, 0], targets[:, 0] = vocabulary.cls, CLS_VALUE
    genes[row, column], targets[row, column], masked[row, column] = cells.genes, cells.values, mask
    values = np.where(masked, np.float32(MASK_VALUE), targets)
    arrays = genes, values, targets, masked, genes == vocabulary.pad
    return Padded(*map(torch.from_numpy, arrays))


def pack_padded(padded: Padded) -> Batch:
    """Take the padding away: the batch that the model reads."""
    real = ~padded.padding
    lengths = real.sum(1)
    cu_seqlens = torch.cat((lengths.new_zeros(1), lengths.cumsum(0))).int()
    cell = torch.arange(len(lengths)).repeat_interleave(lengths)
    masked = padded.mask[real]
    packed = Packed(padded.genes[real], padded.values[real], cu_seqlens, int(lengths.max()))
    targets = padded.targets[real][masked]
    return Batch(packed, masked.nonzero().squeeze(1), cell[masked], targets, len(targets), len(lengths))
