"""How well labels can be told from embeddings: simple classifiers, scored on persons that they never saw.

The encoder stays as it is; only a k-nearest-neighbour vote and a linear model see labels, of other persons.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from censusformer.evaluation.scores import MIN_SAMPLES, quantiles, times
from censusformer.hashing import draw, word

NEIGHBOURS = 15
MIN_TRAIN = 5  # cells that a label needs among those that a classifier is fitted on
MIN_BATCH = 20  # cells of a batch that is to be told from others
FOLDS = 5
_FOLD = word("censusformer embeddings: fold of a person")
_HELD_OUT = word("censusformer embeddings: cells whose batch is told")
Predict = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class Score(NamedTuple):
    """A score with its 95 % interval (NaN where none can be given), and the number of cells that it rests on."""

    value: float
    low: float
    high: float
    n: int


def knn(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Let the 15 nearest cells vote (Euclidean); ties go to the smaller label.

    Parameters
    ----------
    x, y, new
        float (n, d), int (n,) and float (m, d).

    Returns
    -------
    int (m,).
    """
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(min(NEIGHBOURS, len(x)), algorithm="brute").fit(x, y).predict(new)


def logistic(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Multinomial logistic regression on standardised columns (scikit-learn's penalty); arguments as in `knn`."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # close enough after 300 steps for a label
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, tol=1e-3)).fit(x, y)
    return model.predict(new)


def linear_discriminant(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Linear discriminant analysis with Ledoit and Wolf's shrinkage: a closed form, cheap for hundreds of batches."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(x, y).predict(new)


def majority(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:  # noqa: ARG001 - a classifier that is blind
    """Give the most frequent label to all: what accuracy is worth where one label prevails."""
    return np.full(len(new), np.bincount(y).argmax())


CLASSIFIERS: dict[str, Predict] = {"knn": knn, "logistic": logistic}


def on_both_sides(label: np.ndarray, fitted: np.ndarray, scored: np.ndarray) -> np.ndarray:
    """Keep cells whose label stands on both sides, at least 5 times where classifiers are fitted.

    Parameters
    ----------
    label
        int (n,), negative where there is none.
    fitted, scored
        bool (n,): the cells of each side.

    Returns
    -------
    bool (n,).
    """
    top = int(label.max(initial=-1)) + 1
    known = label >= 0
    n_fitted, n_scored = (np.bincount(label[known & side], minlength=top) for side in (fitted, scored))
    good = (n_fitted >= MIN_TRAIN) & (n_scored > 0)
    return known & (fitted | scored) & good[np.where(known, label, 0)] if top else known


def folds_of(person: np.ndarray) -> np.ndarray:
    """Put persons into five folds of equal size, in the order of a hash; int (n,) for persons int (n,)."""
    people = np.unique(person)
    place = np.empty(len(people), np.int64)
    place[np.argsort(draw(_FOLD, people.astype(np.uint64)), kind="stable")] = np.arange(len(people)) % FOLDS
    return place[np.searchsorted(people, person)]


def across_persons(x: np.ndarray, y: np.ndarray, person: np.ndarray, predict: Predict) -> np.ndarray:
    """Predict each cell by a classifier that saw no cell of its person.

    Parameters
    ----------
    x, y, person
        float (n, d), int (n,) and int (n,), of at least two persons.

    Returns
    -------
    int (n,); -1 where the other persons have fewer than two labels.
    """
    fold, predicted = folds_of(person), np.full(len(y), -1)
    for k in np.unique(fold):
        fitted = fold != k
        if len(np.unique(y[fitted])) > 1:
            predicted[~fitted] = predict(x[fitted], y[fitted], x[~fitted])
    return predicted


def confusions(truth: np.ndarray, predicted: np.ndarray, person: np.ndarray, n: int) -> np.ndarray:
    """Count truth and prediction, both below n, by person: int64 (persons, n, n + 1); predictions below 0 come last."""
    _, who = np.unique(person, return_inverse=True)
    found = np.zeros((who.max() + 1, n, n + 1), np.int64)
    np.add.at(found, (who, truth, np.where(predicted < 0, n, predicted)), 1)
    return found


def accuracy(confusion: np.ndarray) -> np.ndarray:
    """Share of cells with the right label, of (..., labels, labels + 1)."""
    right = np.trace(confusion, axis1=-2, axis2=-1)
    return right / confusion.sum((-2, -1))


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """F1 of each label that occurs, mean over labels: a rare one weighs as much as a frequent one.

    Parameters
    ----------
    confusion
        int (..., labels, labels), or with one more column for cells without a prediction, as `confusions` gives it.
    """
    square = confusion[..., : confusion.shape[-2]]
    right, truth = np.diagonal(square, axis1=-2, axis2=-1), confusion.sum(-1)
    f1 = 2 * right / np.maximum(truth + square.sum(-2), 1)
    return (f1 * (truth > 0)).sum(-1) / (truth > 0).sum(-1)


METRICS = {"accuracy": accuracy, "macro_f1": macro_f1}


def scores(by_person: np.ndarray) -> Iterator[tuple[str, Score]]:
    """Accuracy and macro-F1 with intervals that draw whole persons anew (bootstrap, 1,000 times, from five persons on).

    Parameters
    ----------
    by_person
        int64 (persons, labels, labels + 1), of `confusions`.
    """
    for name, metric in METRICS.items():
        yield name, Score(float(metric(by_person.sum(0))), *quantiles(metric(_drawn(by_person))), int(by_person.sum()))


def leads(one: np.ndarray, other: np.ndarray) -> Iterator[tuple[str, Score]]:
    """By how much one classifier is above another on the same cells: the same persons are drawn for both."""
    for name, metric in METRICS.items():
        low, high = quantiles(metric(_drawn(one)) - metric(_drawn(other)))
        yield name, Score(float(metric(one.sum(0)) - metric(other.sum(0))), low, high, int(one.sum()))


def _drawn(by_person: np.ndarray) -> np.ndarray:
    """Sums over persons drawn anew, (1000, labels, labels + 1); none below five persons."""
    n = len(by_person)
    return np.tensordot(times(n), by_person, 1) if n >= MIN_SAMPLES else np.empty((0, *by_person.shape[1:]))


def batch_sides(batch: np.ndarray, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Choose the cells that a classifier of batches is fitted and scored on, bool (n,) each: four fifths and the rest.

    Parameters
    ----------
    batch
        int (n,); batches of fewer than 20 cells are left out.
    cell
        uint64 (n,): the cells' keys, whose hash decides.
    """
    large = (np.bincount(batch) >= MIN_BATCH)[batch]
    held_out = draw(_HELD_OUT, cell) % np.uint64(5) == 0
    return large & ~held_out, large & held_out
