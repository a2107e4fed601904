"""What training measures: rows of `metrics.csv`, and the same for TensorBoard."""

import csv
import io
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from censusformer.files import atomic

logger = logging.getLogger("censusformer")


class Row(NamedTuple):
    """One loss.

    `mse` is in bin units squared. For `valid` and `train_fixed` it is the mean over the masked positions. For `train`
    it is the mean of the batches' losses, each the mean over its own masked positions, as the reference reports it:
    over the last window of `execution.log_every` steps, or over the epoch; times `batches` it is their sum.
    """

    epoch: int  # 0 before training
    step: int  # steps taken
    split: str  # train, train_fixed or valid
    head: str  # gep, gepc or sum
    mask_ratio: float | None  # None: all
    mse: float
    n_masked: int
    seconds: float  # since the run began, over all its starts
    span: str  # window or epoch
    batches: int  # batches that a row of `train` is the mean of, else 0


@dataclass
class Metrics:
    """All rows so far; the table is written anew each time, so that the file is never half a row."""

    rows: list[Row] = field(default_factory=list)

    def add(self, losses: tuple[float, float], **where: Any) -> list[Row]:
        """Add the rows of both heads and of their sum; returns them."""
        gep, gepc = losses
        rows = [Row(head=head, mse=mse, **where) for head, mse in (("gep", gep), ("gepc", gepc), ("sum", gep + gepc))]
        self.rows += rows
        return rows

    def write(self, path: str | Path) -> None:
        """Write `metrics.csv`."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(self.rows)
        with atomic(path) as temporary:
            temporary.write_text(text.getvalue())

    def plain(self) -> list[list[Any]]:
        """The rows as plain lists, as a checkpoint holds them."""
        return [list(row) for row in self.rows]

    @classmethod
    def of(cls, rows: list[list[Any]]) -> "Metrics":
        """The way back from `plain`."""
        return cls([Row(*row) for row in rows])


class Board:
    """TensorBoard's event files, where its package is installed."""

    def __init__(self, folder: Path, step: int) -> None:
        self._writer = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            logger.info("tensorboard is not installed: no event files")
            return
        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def add(self, rows: list[Row]) -> None:
        """Add rows as `{split}/{head}`, windows apart."""
        if self._writer is None:
            return
        for row in rows:
            name = f"{row.split}_window" if row.span == "window" else row.split
            ratio = "" if row.mask_ratio is None else f"_{row.mask_ratio:g}"
            self._writer.add_scalar(f"{name}/{row.head}{ratio}", row.mse, row.step)

    def scalars(self, step: int, **values: float) -> None:
        """Add further figures under their names."""
        for name, value in values.items():
            if self._writer is not None:
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is still in memory."""
        if self._writer is not None:
            self._writer.close()
