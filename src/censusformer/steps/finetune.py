"""Fine-tunes a pretrained model on labelled cells of an h5ad file, and measures it on persons held out.

Writes `finetuned.pt`, which `predict` takes, `scores.json`, and `predictions.parquet`: what was predicted of each cell
by a model that saw no cell of its person.
"""

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from censusformer.errors import InputError
from censusformer.evaluation import annotation as measure
from censusformer.files import atomic
from censusformer.steps._options import add_reading_arguments, share, whole_number
from censusformer.steps._tables import write_table

if TYPE_CHECKING:
    from censusformer.model import Pretrainer
    from censusformer.steps._labelled import Labelled
    from censusformer.training.finetuning import Examples, Finetuned, Job

logger = logging.getLogger("censusformer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this step."""
    add = parser.add_argument
    add("--task", default="annotation", help="a module of censusformer.training.tasks (default: %(default)s)")
    add("--model", type=Path, required=True, metavar="PT", help="the pretrained model (best_model.pt)")
    add("--h5ad", type=Path, required=True, metavar="FILE", help="labelled cells with raw counts")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    add_reading_arguments(parser, "finetune")
    add("--ignore", nargs="*", default=["unknown"], metavar="LABEL", help="labels that are none (default: unknown)")
    add("--finetune-label", default="cell_type", metavar="COLUMN", help="of obs, with labels (default: %(default)s)")
    add("--finetune-person", default="auto", metavar="COLUMN", help="of obs, that names persons; auto: person, else "
        "donor_id; none: split by cell (default: auto)")  # fmt: skip
    add("--finetune-mode", default="frozen", help="frozen: the head alone; full: the encoder, too (default: frozen)")
    add("--finetune-folds", type=whole_number(2), default=4, help="persons are held out in so many turns (default: 4)")
    add("--finetune-seeds", type=whole_number(0), nargs="+", default=[0], help="trained and measured once for each")
    add("--finetune-unknown", type=share, default=0.5, help="confidence below which a cell is unknown (default: 0.5)")
    for name, kind, default, text in (
        ("epochs", int, 100, "passes over the training cells, at most"),
        ("batch-size", int, 32, "cells of a step"),
        ("lr", float, 3e-3, "learning rate of the head; the encoder's is a tenth of it"),
        ("weight-decay", float, 0.01, "of AdamW"),
        ("patience", int, 8, "epochs without a lower loss on held-out persons after which it stops"),
    ):
        add(f"--finetune-{name}", type=kind, default=default, help=f"{text} (default: {default})")
    add("--threads", type=int, help="CPU threads of PyTorch (default: 1 for models narrower than 128)")


@dataclass(frozen=True)
class Fold:
    """What one turn gave: outputs for its held-out cells, and the temperature that other held-out cells chose."""

    outputs: np.ndarray
    temperature: float


def run(args: argparse.Namespace) -> None:
    """Measure by persons held out in turn, then train on all."""
    from censusformer.steps._annotator import save
    from censusformer.steps._counts import open_file
    from censusformer.steps._labelled import folds_of, read_labelled
    from censusformer.steps._model import load
    from censusformer.steps._own import OwnCells
    from censusformer.training import set_threads
    from censusformer.training.finetuning import Job, with_vectors
    from censusformer.training.tasks import task_of

    task, how = task_of(args.task), _settings(args)
    if task.step != "finetune":
        raise InputError(f"task {args.task!r} has a step of its own: censusformer {task.step}")
    model = load(args.model)
    set_threads(model.module.config.d_model, args.threads)
    own = OwnCells(open_file(args.h5ad, args.layer), model.reading, args.min_coverage)
    data = read_labelled(own, args.finetune_label, args.finetune_person, tuple(args.ignore))
    targets = task.targets(data.labels)
    folds = folds_of(data.persons, args.finetune_folds)
    examples = with_vectors(model.module, data.cells, targets.values, how)
    jobs = [Job(task, targets.about, replace(how, seed=seed)) for seed in args.finetune_seeds]
    held_out = [[_turn(model.module, job, examples, folds, k) for k in range(folds.max() + 1)] for job in jobs]
    scores = _scores(jobs, held_out, data, targets.values, folds, unknown=args.finetune_unknown)
    final, temperature = _final(model.module, jobs[0], examples, folds)
    about = {"task": args.task, "label": args.finetune_label, "mode": how.mode}
    said = {**about, "temperature": temperature, "unknown": args.finetune_unknown}
    base = {**model.about, "vocabulary": model.reading.vocabulary.to_json()}  # an older model may lack it
    save(args.out / "finetuned.pt", base, final, jobs[0], said)
    _write(args.out, {**about, **_counts(data), "settings": asdict(how), "scores": scores})
    if "classes" in targets.about:
        _write_predictions(args.out, data, jobs, held_out, folds)
    logger.info("%s: trained on all %d cells for %d epochs", args.out / "finetuned.pt", len(data), final.epochs)


def _settings(args: argparse.Namespace):
    from censusformer.training.finetuning import FinetuneSettings

    names = ("mode", "epochs", "batch_size", "lr", "weight_decay", "patience")
    try:
        return FinetuneSettings(**{name: getattr(args, f"finetune_{name}") for name in names})
    except InputError as error:
        raise InputError(f"finetune.{error}") from error


def _turn(model: "Pretrainer", job: "Job", examples: "Examples", folds: np.ndarray, k: int) -> Fold:
    """Hold the persons of fold k out; those of the next say when to stop, then they are learned from, too."""
    test, valid = folds == k, folds == (k + 1) % (folds.max() + 1)
    found, temperature = _trained(model, job, examples.take(~test & ~valid), examples.take(valid))
    logger.info("seed %d, fold %d: %d epochs", job.settings.seed, k, found.epochs)
    return Fold(found.outputs(job, examples.take(test)), temperature)


def _final(model: "Pretrainer", job: "Job", examples: "Examples", folds: np.ndarray) -> tuple["Finetuned", float]:
    return _trained(model, job, examples.take(folds != 0), examples.take(folds == 0))


def _trained(model: "Pretrainer", job: "Job", train: "Examples", valid: "Examples") -> tuple["Finetuned", float]:
    """Train for as long as held-out persons say, on them, too; and the temperature that they chose before."""
    from censusformer.training.finetuning import fit, together

    first = fit(model, job, train, valid)
    temperature = 1.0
    if "classes" in job.about:
        temperature = measure.fit_temperature(first.outputs(job, valid), valid.targets)
    again = replace(job, settings=replace(job.settings, epochs=first.epochs))
    return fit(model, again, together(train, valid)), temperature


def _scores(
    jobs: Sequence["Job"],
    held_out: Sequence[Sequence[Fold]],
    data: "Labelled",
    values: np.ndarray,
    folds: np.ndarray,
    *,
    unknown: float,
) -> list[dict[str, Any]]:
    """Scores of each seed; those of classes beside the baseline on the same cells."""
    baseline = _baseline(data, values, folds) if "classes" in jobs[0].about else None
    found = []
    for job, turns in zip(jobs, held_out, strict=True):
        outputs, temperature = _joined(turns, folds)
        score: dict[str, Any] = {"seed": job.settings.seed, **job.task.scores(outputs, values)}
        if baseline is not None:
            score |= measure.compared(outputs, temperature, values, baseline, data.persons, unknown=unknown)
        found.append(score)
        logger.info("seed %d, persons never seen: %s", job.settings.seed, _text(score))
    return found


def _joined(turns: Sequence[Fold], folds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and temperatures of all cells, each by the model that saw no cell of its person."""
    outputs = np.empty((len(folds), turns[0].outputs.shape[1]), np.float32)
    for k, turn in enumerate(turns):
        outputs[folds == k] = turn.outputs
    return outputs, np.array([turn.temperature for turn in turns])[folds]


def _baseline(data: "Labelled", values: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """What logistic regression on highly variable genes predicts of the same held-out cells."""
    predicted = np.empty(len(values), np.int64)
    for k in range(folds.max() + 1):
        test, valid = folds == k, folds == (k + 1) % (folds.max() + 1)
        predicted[test] = measure.logistic_regression(data.counts, values, ~test & ~valid, valid)[test]
    return predicted


def _text(score: dict[str, Any]) -> str:
    if "lead" not in score:
        return ", ".join(f"{name} {value:.3f}" for name, value in score.items() if name != "seed")
    named = {"macro-F1": "model", "logistic regression on HVGs": "logistic_hvg", "lead": "lead"}
    macro = ", ".join(f"{name} {_interval(score[key])}" for name, key in named.items())
    accuracy = f"accuracy {score['accuracy']:.3f} (baseline {score['logistic_hvg_accuracy']:.3f})"
    sure = f"{100 * score['unknown']:.1f} % unknown, calibration error {score['calibration_error']:.3f}"
    return f"{macro}; {accuracy}; {sure}"


def _interval(score: dict[str, float | None]) -> str:
    if score["low"] is None:
        return f"{score['value']:.3f}"
    return f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})"


def _counts(data: "Labelled") -> dict[str, Any]:
    names, n = np.unique(data.labels.astype(str), return_counts=True)
    labels = dict(zip(names.tolist(), n.tolist(), strict=True))
    return {"cells": len(data), "persons": len(np.unique(data.persons)), "labels": labels}


def _write(out: Path, content: dict[str, Any]) -> None:
    with atomic(out / "scores.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _write_predictions(
    out: Path, data: "Labelled", jobs: Sequence["Job"], held_out: Sequence[Sequence[Fold]], folds: np.ndarray
) -> None:
    """One row a cell and seed."""
    tables = []
    for job, turns in zip(jobs, held_out, strict=True):
        outputs, temperature = _joined(turns, folds)
        chances = measure.probabilities(outputs, temperature[:, None])
        columns = {
            "name": data.names.astype(str),
            "person": data.persons.astype(str),
            "label": data.labels.astype(str),
            "predicted": np.array(job.about["classes"], object)[chances.argmax(1)].astype(str),
            "confidence": chances.max(1).astype(np.float32),
            "fold": folds.astype(np.int32),
            "seed": np.full(len(folds), job.settings.seed, np.int64),
        }
        tables.append(pa.table(columns))
    write_table(out / "predictions.parquet", pa.concat_tables(tables))
