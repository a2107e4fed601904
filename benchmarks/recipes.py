"""Time to quality: what each recipe, and each change of `fast` taken back, reaches on held-out samples, and when.

    PYTHONPATH=src python benchmarks/recipes.py --shards results/blood-h5ad --results runs.d

trains the model of presets/blood-h5ad.yaml and prints a table of all runs that lie in --results. What lies there is not
trained again, so the table can be put together over several calls. CPU seconds are those of the training alone, on one
thread.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import inputs
import numpy as np
import torch

from censusformer.files import atomic
from censusformer.tokens.cells import Cells
from censusformer.training.data import Data
from censusformer.training.recipes import RECIPES
from censusformer.training.session import start_fabric
from censusformer.training.settings import ExecutionSettings, MaskSettings, Settings, TrainSettings
from censusformer.training.trainer import Trainer
from censusformer.training.validation import fixed_losses
from censusformer.training.window import fixed_cells

MODEL = {"n_layers": 3, "d_model": 64, "n_heads": 4, "d_ff": 128, "dropout": 0.1}
EPOCHS = 6
RATES = {"reference": 1e-4}  # all others: 2e-3
FAST = RECIPES["fast"]
RECIPES.update({
    "reference, rate 2e-3": RECIPES["reference"],
    "fast without gene bias": replace(FAST, gene_bias=False),
    "fast with post-norm": replace(FAST, norm="post"),
    "fast with the reference's schedule": replace(FAST, schedule="step", decay=0.9),
    "fast with Adam, eps 1e-4": replace(FAST, optimizer="adam", weight_decay=0.0, eps=1e-4),
    "fast, rate 1e-4": FAST,
    "fast, warm-up 1 %": replace(FAST, warmup=0.01),
    "fast, warm-up 1 %, GEP as drawn": replace(FAST, warmup=0.01),
})  # fmt: skip
RATES["fast, rate 1e-4"] = 1e-4
AS_DRAWN = "fast, warm-up 1 %, GEP as drawn"  # its last weights start at random, not at zero
CHANGES = [name for name in RECIPES if name not in {"reference", "fast"}]
T_975 = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776}  # Student's t by degrees of freedom


MEASURED = {100, 120, 140, 180, 200, 220}  # steps, beside the ends of epochs


class Enough(Exception):  # noqa: N818 - no error: a run has shown what it was to show
    """The run may end here."""


class Timed(Trainer):
    """A trainer that measures held-out cells along its way and keeps nothing on disk."""

    held_out: Cells
    trace: list[dict]
    stop_at: int  # steps; the schedule is that of the whole run
    spent = 0.0  # CPU seconds of measuring

    def measure(self) -> None:
        """Add the losses at this step, and the CPU seconds of training until here."""
        before = time.process_time()
        words = self.data.vocabulary.gene_words
        (gep, gepc), _ = fixed_losses(self.fabric, self.model, self.held_out, words, lambda: None)[None]
        cpu = before - self.began - self.spent
        self.trace.append({"step": self.state.step, "cpu_seconds": cpu, "gep": gep, "gepc": gepc})
        self.spent += time.process_time() - before

    def _between_steps(self) -> None:
        step = self.state.step
        if step in MEASURED or step == self.stop_at or step % len(self.batches) == 0:
            self.measure()
        if step == self.stop_at:
            raise Enough

    def _end_epoch(self) -> None:
        self.state.evaluated = self.state.step

    def train(self) -> list[dict]:
        """Train to the end; returns the trace."""
        self.began, self.trace = time.process_time(), []
        self.measure()
        with contextlib.suppress(Enough):
            self.fit()
        return self.trace


def train(name: str, seed: int, stop: float, data: Data, held_out: Cells) -> dict:
    """Train by a recipe, its schedule that of six epochs, up to `stop` epochs."""
    how = TrainSettings(epochs=EPOCHS, lr=RATES.get(name, 2e-3), seed=seed, recipe=name)
    settings = Settings(MODEL, MaskSettings(), how, ExecutionSettings(num_workers=0))
    with tempfile.TemporaryDirectory() as work:
        trainer = Timed(start_fabric(settings.execution), settings, data, Path(work))
        trainer.held_out, trainer.stop_at = held_out, round(stop * len(trainer.batches))
        if name == AS_DRAWN:
            torch.manual_seed(seed)
            trainer.module.decoder.fc[-1].reset_parameters()
        trace = trainer.train()
    return {"recipe": name, "seed": seed, "epochs": stop, "trace": trace, "held_out_cells": len(held_out)}


def stored(folder: Path, name: str, seed: int, stop: float) -> Path:
    """Where a run's trace lies."""
    return folder / f"{name.translate({ord(' '): '_', ord(','): None, ord('%'): None})}-{stop:g}-{seed}.json"


def reached(trace: list[dict], gep: float, gepc: float) -> dict | None:
    """Return the first measurement from which on both heads stay at or below the two losses."""
    below = [point["gep"] <= gep and point["gepc"] <= gepc for point in trace]
    first = max((i + 1 for i, ok in enumerate(below) if not ok), default=0)
    return trace[first] if first < len(trace) else None


def interval(values: list[float]) -> str:
    """Mean and 95 % interval of Student's t over seeds."""
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return f"{mean:.1f}"
    return f"{mean:.1f} ± {T_975.get(n - 1, 1.96) * np.std(values, ddof=1) / n**0.5:.1f}"


def summary(runs: list[dict], references: dict[int, dict]) -> dict:
    """One line of the table: runs of one recipe and length over seeds, beside the reference's six epochs."""
    last = [run["trace"][-1] for run in runs]
    line = {"recipe": runs[0]["recipe"], "epochs": runs[0]["epochs"], "seeds": len(runs)}
    line |= {head: interval([point[head] for point in last]) for head in ("gep", "gepc")}
    line["CPU s"] = interval([point["cpu_seconds"] for point in last])
    pairs = [(run, references[run["seed"]]["trace"][-1]) for run in runs if run["seed"] in references]
    found = [(reached(run["trace"], end["gep"], end["gepc"]), end) for run, end in pairs]
    hits = [(point, end) for point, end in found if point is not None]
    line["reaches the reference's end"] = f"{len(hits)} of {len(pairs)}"
    line["at step"] = ", ".join(str(point["step"]) for point, _ in hits) or "-"
    line["after CPU s"] = interval([point["cpu_seconds"] for point, _ in hits]) if hits else "-"
    line["share of its steps"] = share(hits, "step")
    line["share of its CPU time"] = share(hits, "cpu_seconds")
    return line


def share(hits: list[tuple[dict, dict]], key: str) -> str:
    """Largest share over seeds, as '1/n'."""
    worst = max((point[key] / end[key] for point, end in hits), default=None)
    return "-" if worst is None else "0" if worst == 0 else f"1/{1 / worst:.1f}"


def main() -> None:
    """Train what is missing; print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True, help="folder of a data set, or its shards.json")
    parser.add_argument("--results", type=Path, required=True, help="folder for the runs' traces")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--fast-epochs", type=float, nargs="*", default=[6.0], help="of the six, for recipe fast")
    parser.add_argument(
        "--changes", nargs="*", default=CHANGES, help=f"changes of fast to measure, of: {'; '.join(CHANGES)}"
    )
    parser.add_argument("--change-epochs", type=float, default=6.0, help="of the six, for these changes")
    parser.add_argument("--cells", type=int, default=500, help="held-out cells that are measured, chosen by hash")
    parser.add_argument("--table", action="store_true", help="train nothing, print what there is")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.results.mkdir(parents=True, exist_ok=True)
    plan = []
    for seed in args.seeds:
        plan += [("reference", seed, EPOCHS), *(("fast", seed, stop) for stop in args.fast_epochs)]
    plan += [(name, seed, args.change_epochs) for seed in args.seeds for name in args.changes]
    if not args.table:
        data, test = inputs.read(args.shards)
        held_out = test.take(fixed_cells(test.cell, args.cells))
        for which in plan:
            if not stored(args.results, *which).exists():
                run = train(*which, data, held_out)
                with atomic(stored(args.results, *which)) as temporary:
                    temporary.write_text(json.dumps(run))
                print(*which, run["trace"][-1], file=sys.stderr, flush=True)
    runs = [json.loads(path.read_text()) for path in args.results.glob("*.json")]
    names = list(RECIPES)
    runs.sort(key=lambda run: (names.index(run["recipe"]), run["epochs"], run["seed"]))
    references = {run["seed"]: run for run in runs if run["recipe"] == "reference"}
    groups: dict[tuple, list[dict]] = {}
    for run in runs:
        groups.setdefault((run["recipe"], run["epochs"]), []).append(run)
    print(inputs.table([summary(group, references) for group in groups.values()]))


if __name__ == "__main__":
    main()
