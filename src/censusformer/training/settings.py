"""The settings of a training run, checked."""

from dataclasses import asdict, dataclass, field
from typing import Any

from censusformer.errors import InputError
from censusformer.model import BACKENDS

PRECISIONS = ("auto", "32", "tf32", "bf16", "16")


@dataclass(frozen=True)
class MaskSettings:
    """Which genes of a cell are masked in training.

    Parameters
    ----------
    ratios
        Shares of a cell's genes, each within (0, 1).
    draw
        `cell`: each cell draws one of the ratios anew in each epoch; `run`: one for the whole run.
    """

    ratios: tuple[float, ...] = (0.25, 0.5, 0.75)
    draw: str = "cell"

    def __post_init__(self) -> None:
        if not self.ratios or not all(0 < ratio < 1 for ratio in self.ratios):
            raise InputError(f"mask.ratios {list(self.ratios)}: each must lie within 0 and 1")
        if self.draw not in {"cell", "run"}:
            raise InputError(f"mask.draw {self.draw!r}: cell or run")


@dataclass(frozen=True)
class TrainSettings:
    """How long and how fast to train.

    Parameters
    ----------
    epochs
        Passes over the training cells.
    batch_size
        Cells of a step, over all devices together.
    lr
        Highest learning rate.
    seed
        Of initial weights, order of cells, masks and dropout.
    recipe
        Name of one of `recipes.RECIPES`.
    max_steps
        Stop after that many steps in all, even inside an epoch.
    weight_decay
        Decoupled weight decay of matrices; None: the recipe's own.
    early_stopping
        Stop after that many epochs without a lower validation loss; None: never.
    init_from
        `best_model.pt` of another run, whose weights the new one starts from; None: from nothing.
    """

    epochs: int = 6
    batch_size: int = 32
    lr: float = 2e-3
    seed: int = 0
    recipe: str = "fast"
    max_steps: int | None = None
    weight_decay: float | None = None
    early_stopping: int | None = None
    init_from: str | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "max_steps", "early_stopping"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"train.{name} {value}: must be at least 1")
        if not 0 < self.lr < float("inf"):
            raise InputError(f"train.lr {self.lr}: must be over 0")
        if self.weight_decay is not None and not 0 <= self.weight_decay < float("inf"):
            raise InputError(f"train.weight_decay {self.weight_decay}: must be at least 0")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"train.seed {self.seed}: must be at least 0 and below 2^63")


@dataclass(frozen=True)
class ExecutionSettings:
    """How it runs, never what comes out but for rounding.

    Parameters
    ----------
    devices, nodes
        Processes a node (one a GPU, or that many on the CPU), and nodes.
    num_workers
        0: batches are prepared between steps; else by a background thread.
    precision
        `auto` (bf16 on GPUs that have it, else tf32), `32`, `tf32` (32 bits, matmuls of GPUs with 10 bits of mantissa),
        `bf16` or `16`. Under bf16 and 16, matmuls left at 32 bits use TF32.
    compile
        Whether to run the model through `torch.compile`.
    attention
        `auto` or a back end of `model.attention`.
    memory
        GB that decoded training cells may take; where they need more, a window moves over their shards, and the order
        of cells depends on its size.
    max_tokens
        Tokens that a device takes at once: a larger share of a step is done in parts whose gradients are summed. None:
        always the whole. Dropout, if any, draws other numbers for other parts.
    log_every
        Steps of a window of the training loss.
    checkpoint_minutes
        Minutes between two checkpoints inside an epoch.
    """

    devices: int = 1
    nodes: int = 1
    num_workers: int = 1
    precision: str = "auto"
    compile: bool = False
    attention: str = "auto"
    memory: float = 8.0
    max_tokens: int | None = None
    log_every: int = 50
    checkpoint_minutes: float = 10.0

    def __post_init__(self) -> None:
        for name in ("devices", "nodes", "max_tokens", "log_every"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"execution.{name} {getattr(self, name)}: must be at least 1")
        if self.num_workers < 0 or self.checkpoint_minutes < 0:
            raise InputError("execution.num_workers and execution.checkpoint_minutes must not be negative")
        if not self.memory > 0:
            raise InputError(f"execution.memory {self.memory}: must be over 0 (GB)")
        if self.precision not in PRECISIONS:
            raise InputError(f"execution.precision {self.precision!r}: {', '.join(PRECISIONS)}")
        if self.attention not in BACKENDS:
            raise InputError(f"execution.attention {self.attention!r}: {', '.join(BACKENDS)}")


@dataclass(frozen=True)
class Settings:
    """All settings of `pretrain`; `model` holds the keys of `model.*`."""

    model: dict[str, int | float]
    mask: MaskSettings = field(default_factory=MaskSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    execution: ExecutionSettings = field(default_factory=ExecutionSettings)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain values by section, as they stand in the config."""
        sections = asdict(self)
        sections["mask"]["ratios"] = list(self.mask.ratios)
        return sections

    def results(self) -> dict[str, dict[str, Any]]:
        """The sections that decide what comes out: all but `execution`."""
        return {name: value for name, value in self.to_dict().items() if name != "execution"}
