"""The loop of pretraining, on Lightning Fabric.

What a step sees depends on (seed, step) alone: the order of cells and the masks are hashes, dropout is seeded anew at
each step, the learning rate is a function of the step. A run that was stopped anywhere therefore goes on exactly. On
CPUs two runs with the same number of threads agree bit by bit; another number of threads, another processor or a GPU
may add up in another order.
"""

import contextlib
import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from censusformer.errors import InputError
from censusformer.hashing import word
from censusformer.model import squared_errors
from censusformer.training import checkpoints
from censusformer.training.batches import Batch, TrainingBatches, ahead
from censusformer.training.build import build_model, seed_torch
from censusformer.training.data import Data
from censusformer.training.growth import start_from
from censusformer.training.metrics import Board, Metrics, Row
from censusformer.training.progress import Progress, Stopped, StopSignal
from censusformer.training.recipes import build_optimizer, learning_rate, recipe_of
from censusformer.training.settings import Settings
from censusformer.training.state import State, Sums
from censusformer.training.validation import fixed_losses
from censusformer.training.work import BEST, BOARD, LAST, METRICS, identity, read

if TYPE_CHECKING:
    from lightning.fabric import Fabric

logger = logging.getLogger("censusformer")

_DROPOUT = word("dropout")


class Trainer:
    """One run of pretraining: model, optimiser, data and where it stands.

    Parameters
    ----------
    fabric
        A launched Fabric.
    settings
        All settings.
    data
        Training and validation cells.
    work
        Folder for checkpoints; where it holds `last.ckpt` of the same settings and shards, training goes on from there.

    Raises
    ------
    InputError
        Where the folder holds a run of other settings.
    """

    def __init__(self, fabric: "Fabric", settings: Settings, data: Data, work: Path) -> None:
        self.fabric, self.settings, self.data, self.work = fabric, settings, data, work
        train, mask, ranks = settings.train, settings.mask, (fabric.global_rank, fabric.world_size)
        self.recipe = recipe_of(train.recipe)
        self.batches = TrainingBatches(data.train, data.vocabulary, mask, train.batch_size, train.seed, *ranks)
        self.total_steps = min(train.epochs * len(self.batches), train.max_steps or math.inf)
        self.module = build_model(settings, data)
        self.start = start_from(train.init_from, self.module, data.vocabulary, data.n_bins)
        forward = torch.compile(self.module, dynamic=True) if settings.execution.compile else self.module
        optimizer = build_optimizer(self.module, self.recipe, train.lr, train.weight_decay)
        self.model, self.optimizer = fabric.setup(forward, optimizer)
        self.state, self.metrics, self.stop = State(), Metrics(), StopSignal()
        self._resume()
        self._clock = self._saved = time.monotonic()

    def fit(self) -> None:
        """Train to the end, evaluating before the first step and after each epoch; stop at a signal.

        Raises
        ------
        Stopped
            After a signal; the work folder holds a checkpoint to go on from.
        InputError
            Where the loss is not finite.
        """
        state, per_epoch = self.state, len(self.batches)
        with self._watched():
            while True:
                if state.evaluated < state.step and (state.step % per_epoch == 0 or state.step >= self.total_steps):
                    self._end_epoch()
                if state.step >= self.total_steps or self._learns_no_more():
                    return
                self._train_epoch()

    @contextlib.contextmanager
    def _watched(self):
        """Listen for signals, show progress and keep TensorBoard's files open within the block."""
        zero, size = self.fabric.is_global_zero, self.settings.train.batch_size
        total = min(self.settings.train.epochs * len(self.data.train), self.total_steps * size)
        self.progress = Progress(int(total), self.state.cells, quiet=not zero)
        self.board = Board(self.work / BOARD, self.state.step) if zero else None
        try:
            with self.stop.listening():
                yield
        finally:
            self.progress.close()
            if self.board is not None:
                self.board.close()

    # Steps

    def _train_epoch(self) -> None:
        """Take the steps that are left of the epoch under way."""
        batches = self.batches.epoch(*divmod(self.state.step, len(self.batches)))
        if self.fabric.device.type == "cuda":
            batches = (batch.pinned() for batch in batches)
        if self.settings.execution.num_workers:
            batches = ahead(batches)
        self._tick()
        with contextlib.closing(batches):
            for batch in batches:
                self._step(batch)
                self.state.train_seconds += self._tick()
                self._between_steps()
                if self.state.step >= self.total_steps:
                    return

    def _step(self, batch: Batch) -> None:
        """Take one step of the optimiser on a global batch."""
        fabric, state = self.fabric, self.state
        seed_torch(_DROPOUT, self.settings.train.seed, state.step, fabric.global_rank)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate() * group["scale"]
        self.optimizer.zero_grad()
        losses = self._add_gradients(batch)
        fabric.clip_gradients(self.model, self.optimizer, max_norm=self.recipe.clip, error_if_nonfinite=False)
        self.optimizer.step()
        for sums in (state.window, state.epoch):
            sums.add(losses, batch.n_masked)
        state.step += 1
        state.cells += batch.n_cells
        self.progress.update(batch.n_cells, f"epoch {self._epoch()}/{self.settings.train.epochs}, step {state.step}")

    def _add_gradients(self, batch: Batch) -> torch.Tensor:
        """Add up the gradients of the batch, part by part where it has too many tokens; returns the two losses."""
        fabric, losses = self.fabric, []
        parts = batch.parts(self.settings.execution.max_tokens)
        for i, part in enumerate((part.to(fabric.device) for part in parts), 1):
            with fabric.no_backward_sync(self.model, enabled=i < len(parts)):  # ranks talk once a step
                predicted = self.model(part.packed, part.positions, part.cells)
                loss = squared_errors(predicted, part.targets) / part.n_masked
                fabric.backward(loss.sum() * fabric.world_size)  # ranks average gradients; these are to be summed
            losses.append(loss.detach())
        return torch.stack(losses).sum(0)

    def _between_steps(self) -> None:
        """Log a full window, save when it is time, and obey a signal."""
        window = self.state.window.batches == self.settings.execution.log_every
        if window:
            self._log_sums("window")
        if window or self.fabric.world_size == 1:  # several ranks must agree: seldom, since it costs a message
            self._obey_signal()
            late = time.monotonic() - self._saved > 60 * self.settings.execution.checkpoint_minutes
            if self._agreed(late):
                self._save()

    # Epochs

    def _end_epoch(self) -> None:
        """Evaluate, keep the model if it is the best so far, log and save."""
        state, words = self.state, self.data.vocabulary.gene_words
        self._check_finite(state.epoch)
        measured = {
            split: fixed_losses(self.fabric, self.model, cells, words, self._obey_signal)
            for split, cells in (("valid", self.data.valid), ("train_fixed", self.data.fixed))
        }
        self._tick()
        if state.epoch.batches:
            self._log_sums("epoch")
        for split, losses in measured.items():
            for ratio, (mse, n) in losses.items():
                self._log(mse, split=split, mask_ratio=ratio, n_masked=n, span="epoch", batches=0)
        valid, fixed = (measured[split][None][0] for split in ("valid", "train_fixed"))
        logger.info("epoch %d: valid %s; fixed training cells %s", self._epoch(), _text(valid), _text(fixed))
        state.evaluated = state.step
        if sum(valid) < state.best and state.step > 0:
            state.best, state.best_epoch, state.best_step = sum(valid), self._epoch(), state.step
            self._save_best({"gep": valid[0], "gepc": valid[1], "sum": sum(valid)})
        self._save()

    def _learns_no_more(self) -> bool:
        """Whether `train.early_stopping` epochs have passed since the best one."""
        patience, state = self.settings.train.early_stopping, self.state
        passed = self._epoch() - max(0, state.best_epoch)
        if patience is None or state.evaluated != state.step or passed < patience:
            return False
        logger.info("%d epochs without a lower validation loss than epoch %d's: stopping", passed, state.best_epoch)
        return True

    def _log_sums(self, span: str) -> None:
        """Log the training loss since the last row of this span, and start anew."""
        sums = self._gathered(getattr(self.state, span))
        self._check_finite(sums)
        setattr(self.state, span, Sums())
        about = {"n_masked": sums.n_masked, "batches": sums.batches}
        rows = self._log(sums.mean(), split="train", mask_ratio=None, span=span, **about)
        if self.board is not None and span == "window":
            self.board.scalars(self.state.step, lr=self._rate(), cells_per_second=self.cells_per_second)
        elif span == "epoch":
            logger.info("epoch %d: train %s", self._epoch(), _text((rows[0].mse, rows[1].mse)))

    def _log(self, losses: tuple[float, float], **about: Any) -> list[Row]:
        """Add rows to the metrics and to TensorBoard."""
        seconds = round(self.state.seconds, 3)
        rows = self.metrics.add(losses, epoch=self._epoch(), step=self.state.step, seconds=seconds, **about)
        if self.board is not None:
            self.board.add(rows)
        return rows

    # Checkpoints

    def identity(self) -> dict[str, Any]:
        """What decides the result of the run."""
        return identity(self.settings, self.data.sha256, self.data.vocabulary.sha256)

    def _save(self) -> None:
        """Write `last.ckpt` and `metrics.csv`; a loss that is not finite never replaces a good checkpoint."""
        state = self.state
        self._tick()
        window, epoch = self._gathered(state.window), self._gathered(state.epoch)
        self._check_finite(epoch)
        content = {
            "identity": self.identity(),
            "state": {**state.plain(), "window": window.plain(), "epoch": epoch.plain()},
            "metrics": self.metrics.plain(),
            "model": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }
        if self.fabric.is_global_zero:
            checkpoints.save(self.work / LAST, "checkpoint", content)
            self.metrics.write(self.work / METRICS)
        self._saved = time.monotonic()

    def _save_best(self, valid: dict[str, float]) -> None:
        """Write `best_model.pt`: nothing in it depends on the clock, so that equal runs give equal files."""
        if not self.fabric.is_global_zero:
            return
        content = {
            "state_dict": self.module.state_dict(),
            "model": self.module.config.to_dict(),
            "vocab_sha256": self.data.vocabulary.sha256,
            "vocabulary": self.data.vocabulary.to_json(),  # one text: a model is one file that reads new cells
            "binning": dict(self.data.binning),
            "n_bins": self.data.n_bins,
            "max_length": self.data.max_length,
            "epoch": self.state.best_epoch,
            "step": self.state.best_step,
            "valid": valid,
            "args": self.settings.results(),
        }
        checkpoints.save(self.work / BEST, "model", content)

    def _resume(self) -> None:
        """Go on from the work folder's checkpoint, if there is one."""
        path = self.work / LAST
        if not path.is_file():
            return
        content = read(self.work, LAST, "checkpoint")
        before, now = content["identity"], self.identity()
        other = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
        if other:
            raise InputError(
                f"{path} belongs to a run with another {', '.join(other)}: give another --work, or delete this folder"
            )
        if content["state"]["step"] > self.total_steps:
            logger.info("%s is past the end of this shorter run: starting anew", path)
            return
        self.module.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.fabric.strategy.precision.load_state_dict(content["precision"])
        self.state, self.metrics = State.of(content["state"]), Metrics.of(content["metrics"])
        if self.state.best_step > 0:
            read(self.work, BEST, "model")  # it may stay the best to the end
        if self.fabric.is_global_zero:
            self.metrics.write(self.work / METRICS)  # a kill may have come between the checkpoint and its metrics
        else:  # the sums of all ranks are kept by one
            self.state.window, self.state.epoch = self.state.window.emptied(), self.state.epoch.emptied()
        logger.info("going on from step %d of %d (%s)", self.state.step, self.total_steps, path)

    # Small things

    @property
    def cells_per_second(self) -> float:
        """Cells a second over all training steps, evaluation left out."""
        return self.state.cells / max(self.state.train_seconds, 1e-9)

    def _epoch(self) -> int:
        """The epoch of the last step, from 1; 0 before training."""
        return -(-self.state.step // len(self.batches))

    def _rate(self) -> float:
        step, per_epoch = self.state.step, len(self.batches)
        return learning_rate(self.recipe, self.settings.train.lr, step, per_epoch, self.total_steps)

    def _tick(self) -> float:
        """Add the time since the last call to the run's; returns it."""
        now = time.monotonic()
        passed, self._clock = now - self._clock, now
        self.state.seconds += passed
        return passed

    def _agreed(self, flag: bool | int) -> int:
        """The largest flag of all ranks."""
        if self.fabric.world_size == 1:
            return int(flag)
        return int(self.fabric.all_reduce(torch.tensor(int(flag), device=self.fabric.device), reduce_op="max"))

    def _gathered(self, sums: Sums) -> Sums:
        """The sums over all ranks; each rank has its share of the losses, and all of the rest."""
        if self.fabric.world_size == 1:
            return sums
        losses = sums.losses.to(self.fabric.device, copy=True)  # all_reduce works in place; a save ends no sum
        losses = self.fabric.all_reduce(losses, reduce_op="sum")
        return Sums(losses, sums.n_masked, sums.batches)

    def _obey_signal(self) -> None:
        number = self._agreed(self.stop.number)
        if number:
            self._save()
            logger.info("stopped by signal %d at step %d; the same command goes on from here", number, self.state.step)
            raise Stopped(128 + number)

    def _check_finite(self, sums: Sums) -> None:
        if not torch.isfinite(sums.losses).all():
            raise InputError(
                f"the loss is not finite before step {self.state.step}: lower train.lr ({self.settings.train.lr:g}); "
                f"the last good checkpoint is {self.work / LAST}"
            )


def _text(losses: tuple[float, float]) -> str:
    gep, gepc = losses
    return f"GEP {gep:.2f}, GEPC {gepc:.2f}, sum {gep + gepc:.2f}"
