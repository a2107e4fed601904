"""Takes the batch out of embeddings: writes an h5ad file with `obsm["X_integrated"]`, and scores beside other ways."""

import argparse
import json
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from censusformer.errors import InputError
from censusformer.files import atomic
from censusformer.steps._options import add_reading_arguments, whole_number

if TYPE_CHECKING:
    from censusformer.steps._labelled import Labelled

logger = logging.getLogger("censusformer")
KEY = "X_integrated"
EPOCHS, STEPS, BATCH = 40, 1000, 128


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this step."""
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="PT", help="the pretrained model (best_model.pt)")
    add("--h5ad", type=Path, required=True, metavar="FILE", help="cells of all batches, with raw counts")
    add("--out", type=Path, required=True, metavar="FILE", help=f"the same file with obsm/{KEY}")
    add("--scores", type=Path, metavar="JSON", help="mixing of batches and separation of labels, beside principal "
        "components, Harmony and the model's own embeddings")  # fmt: skip
    add_reading_arguments(parser, "finetune")
    add("--finetune-batch", default="dataset_id", metavar="COLUMN", help="of obs: the batches (default: %(default)s)")
    add("--finetune-label", default="cell_type", metavar="COLUMN", help="of obs, for scores (default: %(default)s)")
    add("--integrate-normalise", choices=["all", "batch"], default="all", help="scale embeddings over all cells, or "
        "those of each batch by its own mean and deviation (default: all)")  # fmt: skip
    add("--integrate-strength", type=float, default=1.0, help="of the adversary against what is lost (default: 1)")
    add("--integrate-epochs", type=whole_number(1), help="passes over the cells (default: 40, or as many "
        "as make 1,000 steps)")  # fmt: skip
    add("--integrate-seed", type=whole_number(0), default=0, help="of first weights and the order of cells")
    add("--threads", type=int, help="CPU threads of PyTorch (default: 1 for models narrower than 128)")


def run(args: argparse.Namespace) -> None:
    """Embed all cells, take the batch out, and score."""
    from censusformer.steps._copy import copied, write_record, write_vectors
    from censusformer.steps._counts import open_file
    from censusformer.steps._labelled import read_labelled
    from censusformer.steps._model import load
    from censusformer.steps._own import OwnCells
    from censusformer.training import embed_cells, set_threads

    if not 0 <= args.integrate_strength < float("inf"):
        raise InputError(f"integrate.strength {args.integrate_strength}: must be at least 0")
    model = load(args.model)
    set_threads(model.module.config.d_model, args.threads)
    own = OwnCells(open_file(args.h5ad, args.layer), model.reading, args.min_coverage)
    data = read_labelled(own, args.finetune_batch, None, (), key="finetune.batch")
    if len(data) < len(own):
        raise InputError(f"{args.h5ad}: {len(own) - len(data)} cells have no batch in obs.{args.finetune_batch}")
    before = embed_cells(model.module, data.cells)
    after, batches = integrated(model.module, data, before, args)
    if args.scores:
        labels = _labels(own.source.obs, args.finetune_label)
        found = {**_usual(data, batches), "model_cls": before, "integrated": after}
        _write_scores(args.scores, _scores(found, labels, batches))
    names = ("normalise", "strength", "seed")
    settings = {"batch": args.finetune_batch, **{name: getattr(args, f"integrate_{name}") for name in names}}
    settings["epochs"] = args.integrate_epochs or epochs_of(len(data))
    with copied(args.h5ad, args.out) as store:
        write_vectors(store, KEY, after.shape, iter([after]))
        write_record(store, KEY, {**model.record(own, "cls"), **settings})
    logger.info("%s: obsm/%s, %d cells by %d", args.out, KEY, *after.shape)


def epochs_of(n_cells: int) -> int:
    """Passes over this many cells: 40, or as many as make 1,000 steps; an adversary learns little in fewer."""
    return max(EPOCHS, math.ceil(STEPS / math.ceil(n_cells / BATCH)))


def integrated(
    model: Any, data: "Labelled", vectors: np.ndarray, args: argparse.Namespace
) -> tuple[np.ndarray, np.ndarray]:
    """Integrated embeddings, float32 (n, d), and the batch of each cell, int64 (n,)."""
    from censusformer.training.finetuning import Examples, FinetuneSettings, Job, fit
    from censusformer.training.tasks.integration import TASK, normalised_by

    targets = TASK.targets(data.labels)
    if args.integrate_normalise == "batch":
        vectors = normalised_by(vectors, targets.values)
    epochs = args.integrate_epochs or epochs_of(len(data))
    how = FinetuneSettings(epochs=epochs, batch_size=BATCH, lr=1e-3, seed=args.integrate_seed)
    job = Job(TASK, {**targets.about, "strength": args.integrate_strength}, how)
    examples = Examples(data.cells, targets.values, vectors)
    found = fit(model, job, examples).outputs(job, examples)
    told = [TASK.scores(x, targets.values)["between_batches"] for x in (vectors, found)]
    logger.info("variance between batches: %.1f %% before, %.1f %% after", *(100 * x for x in told))
    return found, targets.values


def _labels(obs: Any, name: str) -> np.ndarray:
    """Labels of all cells, text; empty where a cell has none."""
    if name not in obs:
        raise InputError(f"obs has no column {name!r} (finetune.label), which scores need")
    labels = obs[name].astype(str).to_numpy(object)
    return np.where(np.isin(labels, ["nan", "None", "unknown"]), "", labels)


def _usual(data: "Labelled", batches: np.ndarray) -> dict[str, np.ndarray]:
    """Principal components of highly variable genes, as they are and aligned by Harmony."""
    from censusformer.evaluation.annotation import variable_genes
    from censusformer.evaluation.representations import harmony, log_normalised, principal_components

    values = log_normalised(data.counts)
    components = principal_components(values[:, variable_genes(values, 2000)], np.ones(len(data), bool))
    return {"pca": components, "pca_harmony": harmony(components, batches)}


def _scores(found: dict[str, np.ndarray], labels: np.ndarray, batches: np.ndarray) -> dict[str, dict[str, float]]:
    """Scores by representation, on the cells that have a label."""
    from censusformer.evaluation.integration import integration_scores

    kept = labels != ""
    if not kept.any():
        raise InputError("no cell has a label (finetune.label), which scores need")
    classes = np.unique(labels[kept], return_inverse=True)[1]
    return {name: integration_scores(x[kept], classes, batches[kept]) for name, x in found.items()}


def _write_scores(path: Path, scores: dict[str, dict[str, float]]) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(scores, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    for name, score in scores.items():
        logger.info("%s: %s", name, ", ".join(f"{key} {value:.3f}" for key, value in score.items()))
