"""Masked cells: what baselines see, and what they have to predict."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class MaskedCells:
    """Cells in flat arrays, with a mask.

    Parameters
    ----------
    offsets
        int64 (n+1,): the tokens of cell i are offsets[i]:offsets[i+1].
    genes
        Integers (T,): gene ids, 0..n_genes-1.
    values
        (T,): bins.
    mask
        bool (T,): True at the M positions to predict.
    dataset
        int64 (n,): the cell's data set by number; -1 for one that the baselines never met.
    """

    offsets: np.ndarray
    genes: np.ndarray
    values: np.ndarray
    mask: np.ndarray
    dataset: np.ndarray

    def __len__(self) -> int:
        return len(self.dataset)

    @cached_property
    def cell(self) -> np.ndarray:
        """Each token's cell, int64 (T,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @cached_property
    def target(self) -> np.ndarray:
        """The bins to predict, float64 (M,)."""
        return self.values[self.mask].astype(np.float64)

    @cached_property
    def target_gene(self) -> np.ndarray:
        """The gene of each masked position, int64 (M,)."""
        return self.genes[self.mask].astype(np.int64)

    @cached_property
    def target_cell(self) -> np.ndarray:
        """The cell of each masked position, int64 (M,)."""
        return self.cell[self.mask]
