"""The table of embeddings: every representation of the same cells, by the same tasks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from censusformer.evaluation import classify
from censusformer.evaluation.classify import CLASSIFIERS, Predict
from censusformer.evaluation.integration import BATCH_SCORES, integration_scores

COLUMNS = ("representation", "task", "metric", "value", "low", "high", "n")
MODEL = "model_cls"  # whose lead over the others is measured
MAJORITY = "majority"  # a classifier that is blind, in the place of a representation
Row = tuple[str, str, str, float, float, float, int]


@dataclass(frozen=True)
class Known:
    """What is known of n cells beside their expression.

    Parameters
    ----------
    cell
        uint64 (n,): keys.
    test
        bool (n,): cells of held-out samples, whose persons are in no training sample.
    label
        int (n,): cell type; -1 where it is not known.
    person, sample, dataset
        int (n,).
    label_names
        The types.
    """

    cell: np.ndarray
    test: np.ndarray
    label: np.ndarray
    person: np.ndarray
    sample: np.ndarray
    dataset: np.ndarray
    label_names: tuple[str, ...]

    @property
    def batch(self) -> tuple[str, np.ndarray]:
        """What should mix: data sets where there are several among labelled cells, else samples."""
        several = len(np.unique(self.dataset[self.label >= 0])) > 1
        return ("dataset", self.dataset) if several else ("sample", self.sample)


@dataclass(frozen=True)
class Task:
    """Cells that classifiers are fitted and scored on; without sides every person in turn."""

    name: str
    truth: np.ndarray  # int (n,)
    fitted: np.ndarray  # bool (n,)
    scored: np.ndarray  # bool (n,)
    classifiers: Mapping[str, Predict]
    why_not: str = ""  # why nothing can be measured

    @property
    def in_turn(self) -> bool:
        """Whether the sides are not fixed."""
        return bool((self.fitted & self.scored).any())


def tasks_of(known: Known) -> list[Task]:
    """All tasks of classifiers: types on persons held out, on each person in turn, and the batch."""
    on_test = _held_out(known)
    return [
        on_test,
        _in_turn(known),
        _tell("tells_sample", known.sample, known.cell),
        _tell("tells_dataset", known.dataset, known.cell),
    ]


def _held_out(known: Known) -> Task:
    usable = classify.on_both_sides(known.label, ~known.test, known.test)
    fitted, scored = usable & ~known.test, usable & known.test
    why = ""
    if not known.test.any():
        why = "there are no held-out samples"
    elif len(np.unique(known.label[usable])) < 2:
        why = "fewer than two cell types stand on both sides, in training samples at least five times"
    return Task("held_out", known.label, fitted, scored, CLASSIFIERS, why)


def _in_turn(known: Known) -> Task:
    """Types that at least two persons have: else nobody could tell them."""
    labelled = known.label >= 0
    people = pd.DataFrame({"label": known.label, "person": known.person})[labelled].groupby("label")["person"].nunique()
    usable = labelled & np.isin(known.label, people.index[people > 1])
    why = "" if len(np.unique(known.label[usable])) > 1 else "fewer than two cell types are known of several persons"
    return Task("in_turn", known.label, usable, usable, CLASSIFIERS, why)


def _tell(name: str, batch: np.ndarray, cell: np.ndarray) -> Task:
    fitted, scored = classify.batch_sides(batch, cell)
    scored &= np.isin(batch, batch[fitted])
    why = "" if len(np.unique(batch[fitted])) > 1 else "fewer than two have 20 cells"
    return Task(name, batch, fitted, scored, {"linear": classify.linear_discriminant}, why)


def score_all(representations: Mapping[str, np.ndarray], known: Known) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Score every representation by every task, and say what was compared.

    Parameters
    ----------
    representations
        By name: float (n, d) of the same n cells.
    known
        The n cells.

    Returns
    -------
    Rows with `COLUMNS`, and by task the cells, labels and persons, or the reason why it could not be measured.
    """
    tasks = tasks_of(known)
    rows = [row for task in tasks if not task.why_not for row in _classified(representations, known, task)]
    scored, why = _mixed(known)
    if not why:  # columns of zeros change no distance, and scib-metrics compiles once for all
        width = max(x.shape[1] for x in representations.values())
        for name, x in representations.items():
            rows += _integrated(name, np.pad(x, ((0, 0), (0, width - x.shape[1])))[scored], known, scored)
    told = {task.name: _told(known, task) for task in tasks}
    told["integration"] = {"why_not": why} if why else _cells(known, known.label, scored) | {"batch": known.batch[0]}
    return pd.DataFrame(rows, columns=list(COLUMNS)), told


def _classified(representations: Mapping[str, np.ndarray], known: Known, task: Task) -> Iterator[Row]:
    """Scores of one task; and the model's less those of the others, persons drawn in pairs (`*_lead`)."""
    blind = np.zeros((len(known.cell), 1), np.float32)
    for score in classify.scores(_confusions(blind, known, task, classify.majority)):
        yield MAJORITY, task.name, f"{MAJORITY}_{score[0]}", *score[1]
    for classifier, predict in task.classifiers.items():
        found = {name: _confusions(x, known, task, predict) for name, x in representations.items()}
        for name, by_person in found.items():
            for metric, score in classify.scores(by_person):
                yield name, task.name, f"{classifier}_{metric}", *score
            if MODEL in found and name != MODEL:
                for metric, score in classify.leads(found[MODEL], by_person):
                    yield name, task.name, f"{classifier}_{metric}_lead", *score


def _confusions(x: np.ndarray, known: Known, task: Task, predict: Predict) -> np.ndarray:
    """Truth and prediction of the scored cells, counted by person."""
    truth, person = task.truth[task.scored], known.person[task.scored]
    if task.in_turn:
        predicted = classify.across_persons(x[task.scored], truth, person, predict)
    else:
        predicted = predict(x[task.fitted], task.truth[task.fitted], x[task.scored])
    return classify.confusions(truth, predicted, person, int(task.truth.max()) + 1)


def _mixed(known: Known) -> tuple[np.ndarray, str]:
    """Labelled cells of types with two cells or more, and why scores of integration cannot be had."""
    labelled = known.label >= 0
    often = np.bincount(known.label[labelled], minlength=len(known.label_names)) > 1
    scored = labelled & often[np.maximum(known.label, 0)] if len(known.label_names) else labelled
    several = len(np.unique(known.label[scored])) > 1 or len(np.unique(known.batch[1][scored])) > 1
    enough = scored.sum() > 10 and several
    return scored, "" if enough else "the labelled cells are of one type and one batch, or fewer than ten"


def _integrated(name: str, x: np.ndarray, known: Known, scored: np.ndarray) -> Iterator[Row]:
    found = integration_scores(x, known.label[scored], known.batch[1][scored])
    for metric, value in found.items():
        task = "mixing" if metric in BATCH_SCORES else "clusters"
        yield name, task, metric, value, float("nan"), float("nan"), int(scored.sum())


def _told(known: Known, task: Task) -> dict[str, Any]:
    if task.why_not:
        return {"why_not": task.why_not}
    return _cells(known, task.truth, task.scored) | {"n_fitted": int(task.fitted.sum()), "in_turn": task.in_turn}


def _cells(known: Known, truth: np.ndarray, scored: np.ndarray) -> dict[str, Any]:
    n_classes, n_persons = len(np.unique(truth[scored])), len(np.unique(known.person[scored]))
    return {"n": int(scored.sum()), "n_classes": n_classes, "n_persons": n_persons}
