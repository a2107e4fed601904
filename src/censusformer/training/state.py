"""Where a run stands: all that a resume needs beside weights, optimiser and metrics."""

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class Sums:
    """Sums over batches since the last row of `metrics.csv`: losses of GEP and GEPC, and what they rest on."""

    losses: Tensor = field(default_factory=lambda: torch.zeros(2, dtype=torch.float64))
    n_masked: int = 0
    batches: int = 0

    def add(self, losses: Tensor, n_masked: int) -> None:
        """Add a batch, without waiting for the device: float (2,)."""
        self.losses = self.losses.to(losses.device) + losses.double()
        self.n_masked += n_masked
        self.batches += 1

    def mean(self) -> tuple[float, float]:
        """Mean of the batches' losses."""
        gep, gepc = (self.losses / max(1, self.batches)).tolist()
        return gep, gepc

    def emptied(self) -> "Sums":
        """Without the losses: what the other ranks keep of a checkpoint's sums."""
        return Sums(torch.zeros_like(self.losses), self.n_masked, self.batches)

    def plain(self) -> dict[str, Any]:
        """Plain values, as a checkpoint holds them; float64 survives exactly."""
        return {"losses": self.losses.tolist(), "n_masked": self.n_masked, "batches": self.batches}

    @classmethod
    def of(cls, plain: dict[str, Any]) -> "Sums":
        """The way back from `plain`."""
        return cls(torch.tensor(plain["losses"], dtype=torch.float64), plain["n_masked"], plain["batches"])


@dataclass
class State:
    """Where a run stands.

    Parameters
    ----------
    step
        Steps taken.
    evaluated
        The step of the last evaluation; -1 before the first.
    seconds, train_seconds, cells
        Time spent in all and in steps, over all starts, and cells seen in steps.
    best, best_epoch, best_step
        Lowest validation sum, and when it was reached.
    window, epoch
        Sums since the last row of either kind.
    """

    step: int = 0
    evaluated: int = -1
    seconds: float = 0.0
    train_seconds: float = 0.0
    cells: int = 0
    best: float = float("inf")
    best_epoch: int = -1
    best_step: int = -1
    window: Sums = field(default_factory=Sums)
    epoch: Sums = field(default_factory=Sums)

    def plain(self) -> dict[str, Any]:
        """Plain values, as a checkpoint holds them."""
        scalars = {name: value for name, value in asdict(self).items() if name not in {"window", "epoch"}}
        return {**scalars, "window": self.window.plain(), "epoch": self.epoch.plain()}

    @classmethod
    def of(cls, plain: dict[str, Any]) -> "State":
        """The way back from `plain`."""
        return cls(**{**plain, "window": Sums.of(plain["window"]), "epoch": Sums.of(plain["epoch"])})
