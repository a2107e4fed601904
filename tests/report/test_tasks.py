"""The section about tasks: which side a sentence takes, and when none."""

import pytest

from censusformer.report import tasks


def interval(value, low=None, high=None):
    return {"value": value, "low": low, "high": high}


def annotation(*leads):
    score = {"model": interval(0.75, 0.7, 0.8), "logistic_hvg": interval(0.7, 0.6, 0.8), "accuracy": 0.9}
    score |= {"logistic_hvg_accuracy": 0.91, "calibration_error": 0.02, "unknown": 0.013, "accuracy_called": 0.92}
    scores = [{"seed": seed, **score, "lead": lead} for seed, lead in enumerate(leads)]
    return {"cells": 1954, "persons": 8, "labels": {"B": 900, "T": 1054}, "label": "cell_type", "scores": scores}


@pytest.mark.parametrize(
    ("leads", "said"),
    [
        ([interval(0.1, 0.02, 0.2), interval(0.1, 0.01, 0.2)], "the model is better, beyond its interval"),
        ([interval(0.1, 0.02, 0.2), interval(0.1, -0.01, 0.2)], "the two are level, within the interval"),
        ([interval(-0.1, -0.2, -0.01)], "the baseline is better, beyond its interval"),
        ([interval(0.1)], "too few persons for an interval"),
    ],
)
def test_the_sentence_follows_the_interval_of_every_seed(leads, said):
    text = tasks.labels(annotation(*leads))
    assert said in text
    assert text.startswith("1,954 cells of 8 persons with 2 labels (cell_type)")
    assert "1.3 % of the cells are called unknown; of the others 92.0 % are right." in text


def test_the_table_has_a_row_for_each_seed():
    found = tasks.label_table(annotation(interval(0.05, -0.02, 0.1), interval(0.04)))
    rows = [[cell.text for cell in row.cells] for row in found.rows]
    assert rows[0] == ["0", "0.750 (0.700 to 0.800)", "0.700 (0.600 to 0.800)", "0.050 (-0.020 to 0.100)", "0.900",
                       "0.910", "0.020"]  # fmt: skip
    assert rows[1][3] == "0.040"


SCORES = {
    "pca": {"ilisi": 0.01, "kbet": 0.05, "nmi": 0.6, "ari": 0.9},
    "pca_harmony": {"ilisi": 0.08, "kbet": 0.11, "nmi": 0.8, "ari": 0.8},
    "integrated": {"ilisi": 0.07, "kbet": 0.16, "nmi": 0.7},
}


def test_whoever_leads_is_named():
    text = tasks.batches(SCORES)
    assert "Of scores of mixing, the same, Harmony lead by iLISI; integrated lead by kBET." in text
    assert "Of scores of labels, the same, Harmony lead by NMI." in text
    assert tasks.batches({"pca": {}}).count("none could be measured") == 2


def test_missing_scores_are_dashes():
    found = tasks.batch_table(SCORES)
    assert found.head == ("", "iLISI", "kBET", "NMI", "ARI")
    assert [cell.text for cell in found.rows[2].cells] == ["integrated", "0.070", "0.160", "0.700", "-"]


def test_no_task_no_section():
    assert tasks.content({}) is None
    only = tasks.content({"integration": SCORES})
    assert only["labels"] is None
    assert only["batches"]
