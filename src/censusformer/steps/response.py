"""Predicts how mean expression shifts under a stimulation, from control cells, for persons never seen.

Writes `scores.json`, beside no change and the additive baseline, and `predictions.parquet`: means of each person, state
and gene. Persons without stimulated cells are predicted, too.
"""

import argparse
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from censusformer.errors import InputError
from censusformer.evaluation import response as measure
from censusformer.evaluation.annotation import log_normalised, variable_genes
from censusformer.files import atomic
from censusformer.steps._options import add_reading_arguments, whole_number
from censusformer.steps._tables import write_table

if TYPE_CHECKING:
    from censusformer.model import Pretrainer
    from censusformer.steps._labelled import Labelled

logger = logging.getLogger("censusformer")
FEWEST = 5  # cells of either condition that a group needs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this step."""
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="PT", help="the pretrained model (best_model.pt)")
    add("--h5ad", type=Path, required=True, metavar="FILE", help="control and stimulated cells, with raw counts")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    add_reading_arguments(parser, "finetune")
    add("--response-condition", default="condition", metavar="COLUMN", help="of obs: control or stimulated")
    add("--response-control", default="control", metavar="VALUE", help="of that column: the control cells")
    add("--response-state", default="cell_type", metavar="COLUMN", help="of obs: cell states, for either condition")
    add("--finetune-person", default="auto", metavar="COLUMN", help="of obs: persons; auto: person, else donor_id")
    add("--finetune-folds", type=whole_number(2), default=4, help="persons are held out in so many turns (default: 4)")
    add("--response-genes", type=whole_number(10), default=1000, help="highly variable genes (default: 1000)")
    add("--response-seed", type=whole_number(0), default=0, help="of the order of cells")
    add("--threads", type=int, help="CPU threads of PyTorch (default: 1 for models narrower than 128)")


@dataclass(frozen=True)
class Study:
    """Control cells and what became of their like.

    Parameters
    ----------
    data
        All cells.
    groups
        Their means by person and state.
    stimulated
        bool (n,).
    complete
        bool (g,): groups with cells enough of either condition.
    """

    data: "Labelled"
    groups: measure.Groups
    stimulated: np.ndarray
    complete: np.ndarray

    @property
    def shifts(self) -> np.ndarray:
        """What the stimulation adds to each group, float (g, n_genes)."""
        return self.groups.stimulated - self.groups.control


def run(args: argparse.Namespace) -> None:
    """Measure by persons held out in turn; predict what was not measured."""
    from censusformer.steps._counts import open_file
    from censusformer.steps._labelled import folds_of, read_labelled
    from censusformer.steps._model import load
    from censusformer.steps._own import OwnCells
    from censusformer.training import embed_cells, set_threads

    model = load(args.model)
    set_threads(model.module.config.d_model, args.threads)
    own = OwnCells(open_file(args.h5ad, args.layer), model.reading, args.min_coverage)
    data = read_labelled(own, args.response_state, args.finetune_person, key="response.state")
    condition = read_labelled(own, args.response_condition, None, (), key="response.condition")
    stimulated = _stimulated(data, condition, args)
    values = log_normalised(data.counts)
    genes = variable_genes(values, args.response_genes)
    people, person = np.unique(data.persons.astype(str), return_inverse=True)
    states, state = np.unique(data.labels.astype(str), return_inverse=True)
    groups = measure.grouped(values[:, genes], person, state, stimulated)
    complete = (groups.n_control >= FEWEST) & (groups.n_stimulated >= FEWEST)
    if len(np.unique(groups.person[complete])) < 3:
        raise InputError(
            f"{args.h5ad}: fewer than three persons have {FEWEST} control and {FEWEST} stimulated cells of one state: "
            "there is nothing to learn from and measure"
        )
    study = Study(data, groups, stimulated, complete)
    fold = _folds_of_groups(study, folds_of(people[groups.person[complete]], args.finetune_folds))
    predicted, baseline = _predict(model.module, study, embed_cells(model.module, data.cells), fold, args.response_seed)
    names = own.source.var.index.to_numpy(str)[genes]
    _write(args.out, study, (people, states, names), predicted, baseline)


def _stimulated(data: "Labelled", condition: "Labelled", args: argparse.Namespace) -> np.ndarray:
    """Which cells are stimulated; every cell with a state needs a condition."""
    of = dict(zip(condition.names.tolist(), condition.labels.tolist(), strict=True))
    found = np.array([of.get(name, "") for name in data.names.tolist()], object)
    values = sorted(set(found.tolist()) - {""})
    if "" in found or args.response_control not in values or len(values) != 2:
        raise InputError(
            f"{args.h5ad}: obs.{args.response_condition} holds {', '.join(values[:5])}; the control cells' value "
            f"({args.response_control}, response.control) and one other are needed, for every cell"
        )
    return found != args.response_control


def _folds_of_groups(study: Study, fold: np.ndarray) -> np.ndarray:
    """The fold of each group; -1 of those that nothing is known of."""
    out = np.full(len(study.complete), -1)
    out[study.complete] = fold
    return out


def _predict(
    model: "Pretrainer", study: Study, vectors: np.ndarray, fold: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Shifts of all groups by the model and by the additive baseline, (g, n_genes) each, of persons never seen."""
    shape = study.shifts.shape
    predicted, baseline = np.full(shape, np.nan), np.full(shape, np.nan)
    n = fold.max() + 1
    for k in (-1, *range(n)):
        here, valid = fold == k, fold == ((k + 1) % n)
        fitted = study.complete & ~here
        baseline[here] = measure.additive(study.shifts, study.groups.state, fitted)[here]
        predicted[here] = _trained(model, study, vectors, (fitted, valid), seed)[here]
    return predicted, baseline


def _trained(
    model: "Pretrainer", study: Study, vectors: np.ndarray, sides: tuple[np.ndarray, np.ndarray], seed: int
) -> np.ndarray:
    """Shifts of all groups, by a head that learned from some (`sides[0]`), for as long as others (`sides[1]`) said."""
    from dataclasses import replace

    from censusformer.training.finetuning import Examples, FinetuneSettings, Job, fit
    from censusformer.training.tasks.response import TASK

    (fitted, valid), control, of = sides, np.flatnonzero(~study.stimulated), study.groups.of
    cells = control[fitted[of[control]]]
    targets = TASK.targets(study.shifts[of[cells]])
    examples = Examples(study.data.cells.take(cells), targets.values, vectors[cells])
    job = Job(TASK, targets.about, FinetuneSettings(epochs=100, lr=1e-3, patience=5, seed=seed))
    held = valid[of[cells]]
    first = fit(model, job, examples.take(~held), examples.take(held))
    found = fit(model, replace(job, settings=replace(job.settings, epochs=first.epochs)), examples)
    everything = Examples(study.data.cells.take(control), np.zeros((len(control), 0), np.float32), vectors[control])
    shifts, out = found.outputs(job, everything), np.full(study.shifts.shape, np.nan)
    for g in np.unique(of[control]):
        out[g] = shifts[of[control] == g].mean(0)
    return out


def _write(
    out: Path,
    study: Study,
    names: tuple[np.ndarray, np.ndarray, np.ndarray],
    predicted: np.ndarray,
    baseline: np.ndarray,
) -> None:
    scores = _scores(study, {"no_change": np.zeros_like(predicted), "additive": baseline, "model": predicted})
    with atomic(out / "scores.json") as temporary:
        temporary.write_text(json.dumps(scores, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    people, states, genes = names
    groups, k = study.groups, len(genes)
    columns = {
        "person": np.repeat(people[groups.person], k),
        "state": np.repeat(states[groups.state], k),
        "gene": np.tile(genes, len(groups.person)),
        "n_control": np.repeat(groups.n_control, k),
        "n_stimulated": np.repeat(groups.n_stimulated, k),
        "control": groups.control.ravel().astype(np.float32),
        "stimulated": groups.stimulated.ravel().astype(np.float32),
        "additive": (groups.control + baseline).ravel().astype(np.float32),
        "model": (groups.control + predicted).ravel().astype(np.float32),
    }
    write_table(out / "predictions.parquet", pa.table(columns))
    for name, score in scores["predictors"].items():
        logger.info("%s: mean squared error %s", name, _text(score["mse"]))
    for name, score in scores["lead"].items():
        logger.info("error of %s minus the model's: %s", name, _text(score))


def _scores(study: Study, shifts: dict[str, np.ndarray]) -> dict[str, Any]:
    """Errors over persons, of groups that were measured; leads are errors of others minus the model's."""
    groups, here = study.groups, study.complete
    truth, person = study.shifts[here], groups.person[here]
    errors = {name: measure.by_person(((x[here] - truth) ** 2).mean(1), person) for name, x in shifts.items()}
    similar = {name: measure.by_person(measure.correlation(x[here], truth), person) for name, x in shifts.items()}
    persons = measure.mean_over_persons
    predictors = {
        name: {"mse": asdict(persons(errors[name])), "correlation": asdict(persons(similar[name]))} for name in shifts
    }
    lead = {name: asdict(persons(errors[name] - errors["model"])) for name in ("no_change", "additive")}
    return {"groups": int(here.sum()), "persons": len(np.unique(person)), "predictors": predictors, "lead": lead}


def _text(score: dict[str, float | None]) -> str:
    if score["low"] is None:
        return f"{score['value']:.4f}"
    return f"{score['value']:.4f} ({score['low']:.4f} to {score['high']:.4f})"
