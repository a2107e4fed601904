"""Labels of cells: scores with intervals over persons, calibration, and the baseline that sees genes alone."""

from dataclasses import asdict, dataclass

import numpy as np
from scipy import sparse

from censusformer.evaluation.classify import macro_f1
from censusformer.hashing import draw, uniform, word

DRAWS, MIN_PERSONS = 1000, 5  # as everywhere: how often persons are drawn anew, and how many an interval needs
STRENGTHS = (0.01, 0.1, 1.0, 10.0)
TEMPERATURES = np.geomspace(0.1, 10.0, 201)
_BOOTSTRAP = word("censusformer bootstrap over persons")


def probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Softmax of logits / temperature, (n, k)."""
    scaled = logits / temperature
    scaled = np.exp(scaled - scaled.max(1, keepdims=True))
    return scaled / scaled.sum(1, keepdims=True)


def fit_temperature(logits: np.ndarray, classes: np.ndarray) -> float:
    """The temperature under which held-out classes are likeliest (Guo et al. 2017), of 201 from 0.1 to 10."""
    rows = np.arange(len(classes))
    losses = [-np.log(probabilities(logits, t)[rows, classes] + 1e-12).mean() for t in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])


def calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean distance of confidence from accuracy over bins of equal width."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    n = np.bincount(place, minlength=bins)
    gaps = np.bincount(place, confidence, bins) - np.bincount(place, correct, bins)
    return float(np.abs(gaps).sum() / max(1, n.sum()))


def confusions(classes: np.ndarray, predicted: np.ndarray, group: np.ndarray, n: int) -> np.ndarray:
    """Counts of (class, prediction) for each group, int64 (n_groups, n, n); groups are numbered from 0."""
    table = np.zeros((int(group.max()) + 1, n, n), np.int64)
    np.add.at(table, (group, classes, predicted), 1)
    return table


@dataclass(frozen=True)
class Score:
    """A score with its 95 % interval over persons; the interval is None below `MIN_PERSONS` of them."""

    value: float
    low: float | None
    high: float | None


def drawn(n: int) -> np.ndarray:
    """How often each of n persons is drawn, int64 (DRAWS, n)."""
    chosen = (uniform(draw(_BOOTSTRAP, np.arange(DRAWS * n, dtype=np.uint64))) * n).astype(int).reshape(DRAWS, n)
    return np.stack([np.bincount(row, minlength=n) for row in chosen])


def scored(tables: np.ndarray, minus: np.ndarray | None = None) -> Score:
    """Macro-F1 of confusions by person, (n_persons, n, n), or its lead over other predictions of the same cells."""

    def value(times: np.ndarray) -> np.ndarray:
        found = macro_f1(np.tensordot(times, tables, 1))
        return found if minus is None else found - macro_f1(np.tensordot(times, minus, 1))

    n = len(tables)
    if n < MIN_PERSONS:
        return Score(float(value(np.ones(n, np.int64))), None, None)
    low, high = np.quantile(value(drawn(n)), [0.025, 0.975])
    return Score(float(value(np.ones(n, np.int64))), float(low), float(high))


def log_normalised(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """log(1 + counts scaled to 10,000 a cell), float32."""
    totals = np.maximum(1, np.asarray(counts.sum(1)).ravel())
    scaled = sparse.csr_matrix(sparse.diags(1e4 / totals) @ counts, dtype=np.float32)
    return scaled.log1p()


def variable_genes(values: sparse.csr_matrix, n: int) -> np.ndarray:
    """The n columns of the largest variance / mean, int64, rising: the dispersion of scanpy's flavour `cell_ranger`.

    It is computed on log-normalised values and without bins of genes of equal mean.
    """
    mean = np.asarray(values.mean(0)).ravel()
    variance = np.asarray(values.multiply(values).mean(0)).ravel() - mean**2
    dispersion = np.divide(variance, mean, out=np.zeros_like(variance), where=mean > 0)
    return np.sort(np.argsort(-dispersion, kind="stable")[:n])


def logistic_regression(
    counts: sparse.csr_matrix, classes: np.ndarray, train: np.ndarray, valid: np.ndarray, n_genes: int = 1200
) -> np.ndarray:
    """Baseline: multinomial logistic regression on log-normalised highly variable genes.

    Genes are chosen on the cells it learns from; its strength on `valid`; then it learns from both.

    Parameters
    ----------
    counts
        (n, n_all_genes), raw.
    classes
        int64 (n,), used in the rows of `train` and `valid` alone.
    train, valid
        bool (n,).
    n_genes
        Highly variable genes.

    Returns
    -------
    int64 (n,), the predicted class of each cell.
    """
    values = log_normalised(counts)

    def fitted(rows: np.ndarray, strength: float):
        from sklearn.linear_model import LogisticRegression

        genes = variable_genes(values[rows], n_genes)
        model = LogisticRegression(C=strength, max_iter=1000).fit(values[rows][:, genes], classes[rows])
        return lambda where: model.predict(values[where][:, genes])

    n = int(classes.max()) + 1

    def on_valid(strength: float) -> float:
        predicted = fitted(train, strength)(valid)
        return float(macro_f1(confusions(classes[valid], predicted, np.zeros(len(predicted), int), n))[0])

    best = max(STRENGTHS, key=on_valid)
    return fitted(train | valid, best)(np.ones(len(classes), bool))


def compared(
    logits: np.ndarray,
    temperature: np.ndarray,
    classes: np.ndarray,
    baseline: np.ndarray,
    person: np.ndarray,
    *,
    unknown: float,
) -> dict[str, float | dict[str, float | None] | None]:
    """Predictions for persons never seen, beside the baseline's of the same cells.

    Parameters
    ----------
    logits
        (n, k), each by a model that saw no cell of that person.
    temperature
        (n,), of that model.
    classes, baseline
        int64 (n,): the truth, and what the baseline says.
    person
        (n,), any labels.
    unknown
        Confidence below which the model calls a cell unknown.

    Returns
    -------
    `model`, `logistic_hvg` and `lead` (model minus baseline): macro-F1 with interval, all cells called; `accuracy` of
    either; `calibration_error`; `unknown`, the share of cells so called, `accuracy_called` of the rest and
    `accuracy_unknown`, what calling them all the same would have given.
    """
    _, group = np.unique(np.asarray(person).astype(str), return_inverse=True)
    chances = probabilities(logits, temperature[:, None])
    predicted, confidence = chances.argmax(1), chances.max(1)
    right, called = predicted == classes, confidence >= unknown
    ours, theirs = (confusions(classes, guess, group, logits.shape[1]) for guess in (predicted, baseline))
    return {
        "model": asdict(scored(ours)),
        "logistic_hvg": asdict(scored(theirs)),
        "lead": asdict(scored(ours, theirs)),
        "accuracy": float(right.mean()),
        "logistic_hvg_accuracy": float(np.mean(baseline == classes)),
        "calibration_error": calibration_error(confidence, right),
        "unknown": float(1 - called.mean()),
        "accuracy_called": _mean(right[called]),
        "accuracy_unknown": _mean(right[~called]),
    }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
