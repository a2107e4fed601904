"""Losses on fixed cells and fixed masks, in evaluation mode."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from censusformer.model import Pretrainer
from censusformer.tokens.cells import Cells
from censusformer.tokens.masking import evaluation_mask
from censusformer.training.predict import predict_masked

if TYPE_CHECKING:
    from lightning.fabric import Fabric

EVALUATION_RATIOS = (0.25, 0.5, 0.75)

Loss = tuple[tuple[float, float], int]  # MSE of GEP and GEPC, and the masked positions that they are means over


def fixed_losses(
    fabric: "Fabric", model: Pretrainer, cells: Cells, gene_words: np.ndarray, between: Callable[[], None]
) -> dict[float | None, Loss]:
    """Measure both heads for each mask ratio, and over all of them together (None).

    Each is the mean over masked positions, in bin units squared; ranks share the cells.
    """
    mine = cells.take(np.arange(fabric.global_rank, len(cells), fabric.world_size))
    sums = np.stack([_sums(model, mine, evaluation_mask(mine, gene_words, r), between) for r in EVALUATION_RATIOS])
    if fabric.world_size > 1:
        sums = fabric.all_reduce(torch.from_numpy(sums).to(fabric.device), reduce_op="sum").cpu().numpy()
    rows = {None: sums.sum(0), **dict(zip(EVALUATION_RATIOS, sums, strict=True))}
    return {ratio: ((float(gep / n), float(gepc / n)), int(n)) for ratio, (gep, gepc, n) in rows.items()}


def _sums(model: Pretrainer, cells: Cells, mask: np.ndarray, between: Callable[[], None]) -> np.ndarray:
    """Sums of squared errors of GEP and GEPC, and the number of positions: float64 (3,)."""
    targets = cells.values[mask].astype(np.float64)
    errors = [np.square(predicted - targets).sum() for predicted in predict_masked(model, cells, mask, between=between)]
    return np.array([*errors, len(targets)])
