"""A run of pretraining from end to end: settings, Fabric, training, and the results in their place."""

import contextlib
import json
import logging
import os
import platform
import resource
import shutil
import signal
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from censusformer.errors import InputError
from censusformer.files import atomic
from censusformer.model import parameter_counts
from censusformer.model.attention import choose_backend
from censusformer.tokens.vocabulary import Vocabulary
from censusformer.training import checkpoints, requeue
from censusformer.training.data import Data, read_data
from censusformer.training.progress import Stopped
from censusformer.training.recipes import recipe_of
from censusformer.training.settings import ExecutionSettings, MaskSettings, Settings, TrainSettings
from censusformer.training.threads import set_threads
from censusformer.training.trainer import Trainer
from censusformer.training.work import BEST, BOARD, LAST, METRICS, About, finish, identity, locked, place, prepare

if TYPE_CHECKING:
    from lightning.fabric import Fabric

logger = logging.getLogger("censusformer")

ARGS, VOCABULARY = "args.json", "vocab.json"


def settings_of(options: Mapping[str, Any]) -> Settings:
    """Settings out of options named as on the command line: `train_lr`, `mask_ratios`, ..."""
    sections: dict[str, dict[str, Any]] = {"model": {}, "mask": {}, "train": {}, "execution": {}}
    for name, value in options.items():
        section, _, key = name.partition("_")
        if section in sections and key:
            sections[section][key] = tuple(value) if isinstance(value, list) else value
    mask, train = MaskSettings(**sections["mask"]), TrainSettings(**sections["train"])
    recipe_of(train.recipe)
    return Settings(sections["model"], mask, train, ExecutionSettings(**sections["execution"]))


def start_fabric(execution: ExecutionSettings) -> "Fabric":
    """Launch Fabric on what there is: GPUs, else the CPU; one process a device."""
    from lightning.fabric import Fabric
    from lightning.fabric.plugins.environments import LightningEnvironment

    cuda = torch.cuda.is_available()
    if cuda:
        torch.set_float32_matmul_precision("highest" if execution.precision == "32" else "high")  # high: TF32
        if execution.devices > torch.cuda.device_count():
            raise InputError(
                f"execution.devices {execution.devices}: this machine has {torch.cuda.device_count()} GPUs"
            )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The `srun` command is available")  # installed is not in use
        fabric = Fabric(
            accelerator="cuda" if cuda else "cpu",
            devices=execution.devices,
            num_nodes=execution.nodes,
            strategy="ddp" if execution.devices * execution.nodes > 1 else "auto",
            precision=precision_of(execution.precision, cuda=cuda),
            plugins=LightningEnvironment() if _alone(execution) else None,
        )
    fabric.launch()
    return fabric


def _alone(execution: ExecutionSettings) -> bool:
    """Whether SLURM started one process alone, so that it has to start the others on its node itself."""
    return os.environ.get("SLURM_NTASKS") == "1" and execution.devices > 1


def precision_of(name: str, *, cuda: bool) -> str:
    """Fabric's name of a precision; `auto` is bf16 on GPUs that have it, else 32 bits (TF32 in matmuls on GPUs)."""
    if name == "auto":
        name = "bf16" if cuda and torch.cuda.is_bf16_supported() else "tf32"
    if name == "16" and not cuda:
        raise InputError("execution.precision 16 needs a GPU: choose auto, 32 or bf16")
    return {"32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[name]


def pretrain(
    settings: Settings,
    shards: Path,
    vocabulary: Vocabulary,
    *,
    out: Path,
    work: Path,
    threads: int | None = None,
    code: str = "",
) -> None:
    """Train, or go on from this configuration's folder in `work`, and publish the results to `out`.

    `code` is a digest of the source: what other source began is not gone on with.

    Raises
    ------
    InputError
        Where shards and vocabulary do not fit, a split is empty, another process trains the same, or the loss is not
        finite.
    """
    set_threads(int(settings.model["d_model"]), threads)
    data = read_data(shards, vocabulary, settings.execution.memory)
    about = About(identity(settings, data.sha256, vocabulary.sha256), code, settings.train.epochs)
    folder = work / about.name
    folder.mkdir(parents=True, exist_ok=True)
    fabric = start_fabric(settings.execution)
    if not fabric.is_global_zero:
        logger.setLevel(logging.WARNING)  # one process tells what all do
    with locked(folder) if fabric.is_global_zero else contextlib.nullcontext():
        if fabric.is_global_zero:
            prepare(folder, about)
        fabric.barrier()
        trainer = Trainer(fabric, settings, data, folder)
        announce(trainer)
        with _requeued(trainer):
            trainer.fit()
        if trainer.fabric.is_global_zero:
            _write_json(folder / ARGS, describe(trainer))
            vocabulary.write(folder / VOCABULARY)
            _own_settings(folder / BEST, settings)
            publish(folder, out)
            finish(folder, about)
            logger.info("wrote %s", out / BEST)
        trainer.fabric.barrier()


@contextlib.contextmanager
def _requeued(trainer: Trainer) -> Iterator[None]:
    """Where SIGURG says that a SLURM job's time is nearly over, have the job queued again; unless it got no further."""
    start, job = trainer.state.step, requeue.job()
    try:
        yield
    except Stopped as stopped:
        if job is None or stopped.code != 128 + signal.SIGURG:
            raise
        if trainer.state.step == start:
            logger.info("the job's time is too short for a single step: give it more (resources, runtime)")
            raise
        first = trainer.fabric.is_global_zero
        if trainer.fabric.broadcast(requeue.requeue(job) if first else False):
            requeue.wait_for_the_end()
        raise


def announce(trainer: Trainer) -> None:
    """Log what is about to run."""
    data, fabric = trainer.data, trainer.fabric
    logger.info("%s", _counts_text(data))
    logger.info(
        "%s parameters, recipe %s, %s steps of %d cells in all, on %d x %s, %s, attention %s",
        f"{parameter_counts(trainer.module)['total']:,}",
        trainer.settings.train.recipe,
        f"{trainer.total_steps:,}",
        trainer.settings.train.batch_size,
        fabric.world_size,
        fabric.device,
        fabric.strategy.precision.precision,
        attention_of(trainer),
    )


def _counts_text(data: Data) -> str:
    mean = data.train.n_tokens / len(data.train) + 1
    return (
        f"{len(data.train):,} training cells of {mean:.0f} tokens on average, {len(data.valid):,} validation cells, "
        f"{data.vocabulary.n_genes:,} genes"
    )


def attention_of(trainer: Trainer) -> str:
    """The attention back end in use."""
    precision = str(trainer.fabric.strategy.precision.precision)
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision, torch.float32)
    best, wanted = choose_backend(trainer.fabric.device, dtype), trainer.settings.execution.attention
    if wanted == "varlen" and best != "varlen":
        raise InputError("execution.attention varlen needs a GPU, PyTorch >= 2.10 and 16 bits: choose auto")
    return best if wanted == "auto" else wanted


def describe(trainer: Trainer) -> dict[str, Any]:
    """What `args.json` holds: settings, recipe, data, what it ran on, and how fast."""
    data, state, fabric = trainer.data, trainer.state, trainer.fabric
    return {
        **trainer.settings.to_dict(),
        "recipe": asdict(trainer.recipe),
        "model_config": trainer.module.config.to_dict(),
        "parameters": parameter_counts(trainer.module),
        "start": asdict(trainer.start) if trainer.start else None,
        "data": {
            "train_cells": len(data.train),
            "train_tokens": data.train.n_tokens,
            "valid_cells": len(data.valid),
            "valid_tokens": int(data.valid.offsets[-1]),
            "n_bins": data.n_bins,
            "max_length": data.max_length,
            "vocab_sha256": data.vocabulary.sha256,
            "shards_sha256": data.sha256,
        },
        "used": {
            "device": torch.cuda.get_device_name(fabric.device) if fabric.device.type == "cuda" else "cpu",
            "devices": fabric.world_size,
            "precision": str(fabric.strategy.precision.precision),
            "attention": attention_of(trainer),
            "threads": torch.get_num_threads(),
        },
        "result": {
            "steps": state.step,
            "best_epoch": state.best_epoch,
            "best_step": state.best_step,
            "best_valid_sum": state.best,
            "seconds": round(state.seconds, 1),
            "train_seconds": round(state.train_seconds, 1),
            "cells_per_second": round(trainer.cells_per_second, 1),
            "peak_memory_bytes": peak_memory(fabric.device),
        },
        "versions": {
            "censusformer": _own_version(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "lightning": metadata.version("lightning"),
            "numpy": np.__version__,
        },
    }


def _own_version() -> str:
    try:
        return metadata.version("censusformer")
    except metadata.PackageNotFoundError:  # run from its source alone
        return "source"


def peak_memory(device: torch.device) -> int:
    """Most bytes held at once: of the GPU, else of this process since it began."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _own_settings(path: Path, settings: Settings) -> None:
    """Write this run's settings into a best model that a shorter run left."""
    content = checkpoints.load(path, "model")
    args = settings.results()
    if content["args"] != args:
        checkpoints.save(path, "model", {**content, "args": args})


def publish(work: Path, out: Path) -> None:
    """Put the results in their place, each whole or not at all, the model last."""
    for name in (VOCABULARY, ARGS, METRICS, LAST, BEST):
        place(work / name, out / name)
    if (work / BOARD).is_dir():
        shutil.rmtree(out / BOARD, ignore_errors=True)
        shutil.copytree(work / BOARD, out / BOARD)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
