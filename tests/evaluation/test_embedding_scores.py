from dataclasses import replace

import numpy as np
import pytest

from censusformer.evaluation.embedding_scores import COLUMNS, Known, score_all, tasks_of


@pytest.fixture(scope="module")
def known():
    """400 cells of ten persons, of whom the last four are held out; a tenth has no label."""
    rng = np.random.default_rng(0)
    person = np.arange(400) % 10
    label = rng.integers(0, 3, 400)
    label[rng.random(400) < 0.1] = -1
    return Known(
        rng.integers(0, 2**63, 400).astype(np.uint64), person >= 6, label, person, person, person % 2, ("a", "b", "c")
    )


def test_sides_of_tasks(known):
    held_out, in_turn, sample, dataset = tasks_of(known)
    assert not (held_out.fitted & held_out.scored).any()
    assert set(known.person[held_out.fitted]) == set(range(6)) and set(known.person[held_out.scored]) == set(
        range(6, 10)
    )
    assert (known.label[held_out.fitted | held_out.scored] >= 0).all()
    assert in_turn.in_turn and not held_out.in_turn
    assert (sample.fitted ^ sample.scored).all() and not (dataset.fitted & dataset.scored).any()


def test_a_good_embedding_stands_above_noise_and_tells_no_batch(known):
    rng = np.random.default_rng(1)
    good = np.eye(4)[known.label] + 0.2 * rng.normal(size=(400, 4))
    betrays = np.eye(10)[known.person] + 0.2 * rng.normal(size=(400, 10))
    frame, told = score_all({"model_cls": betrays, "good": good}, known)
    assert tuple(frame.columns) == COLUMNS
    values = frame.set_index(["representation", "task", "metric"])["value"]
    lead = frame.set_index(["representation", "task", "metric"]).loc[("good", "in_turn", "knn_accuracy_lead")]
    assert lead["low"] < lead["value"] < lead["high"] < -0.3
    for task, metric, winner, loser in (
        ("held_out", "knn_macro_f1", "good", "model_cls"),
        ("in_turn", "knn_macro_f1", "good", "model_cls"),
        ("tells_sample", "linear_accuracy", "model_cls", "good"),
    ):
        assert values[winner, task, metric] > 0.9
        assert values[loser, task, metric] < 0.5
    assert values["good", "mixing", "ilisi"] > values["model_cls", "mixing", "ilisi"]
    assert told["held_out"]["n"] == ((known.label >= 0) & known.test).sum()
    assert told["integration"]["batch"] == "dataset"


def test_one_data_set_mixes_by_sample(known):
    alone = replace(known, dataset=np.zeros(400, int))
    assert alone.batch[0] == "sample"
    assert "20 cells" in tasks_of(alone)[3].why_not
    assert tasks_of(replace(known, label=np.full(400, -1)))[0].why_not
