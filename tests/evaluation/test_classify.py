import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from censusformer.evaluation import classify


def scores_of(truth, predicted, person):
    return dict(classify.scores(classify.confusions(truth, predicted, person, 4)))


labels = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 7)), min_size=1, max_size=60)


@settings(deadline=None, max_examples=60)
@given(labels)
def test_scores_are_scikit_learns(rows):
    truth, predicted, person = np.array(rows).T
    found = scores_of(truth, predicted, person)
    assert found["accuracy"].value == pytest.approx(accuracy_score(truth, predicted))
    expected = f1_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0)
    assert found["macro_f1"].value == pytest.approx(expected)
    for score in found.values():
        assert score.n == len(truth)
        assert np.isnan(score.low) == (len(np.unique(person)) < 5)


def test_intervals_draw_persons_not_cells():
    """Five persons, of whom one is always wrong: no draw of cells would spread that far."""
    person = np.repeat(np.arange(5), 200)
    truth, predicted = np.ones(1000, int), (person > 0).astype(int)
    score = scores_of(truth, predicted, person)["accuracy"]
    assert (score.value, score.low, score.high) == (0.8, 0.4, 1.0)


def test_a_lead_is_drawn_in_pairs():
    """Persons differ widely, and one classifier has ten more cells right of each: that is certain."""
    person, truth = np.repeat(np.arange(6), 100), np.ones(600, int)
    place = np.arange(600) % 100
    worse = (place < 15 * person).astype(int)
    better = (place < 15 * person + 10).astype(int)
    one, other = (classify.confusions(truth, predicted, person, 2) for predicted in (better, worse))
    lead = dict(classify.leads(one, other))["accuracy"]
    assert lead == pytest.approx((0.1, 0.1, 0.1, 600))
    assert dict(classify.scores(one))["accuracy"].high > dict(classify.scores(one))["accuracy"].low + 0.3


def test_a_missing_prediction_is_wrong_and_no_label():
    found = scores_of(np.array([0, 0, 1]), np.array([0, -1, 1]), np.zeros(3, int))
    assert found["accuracy"].value == pytest.approx(2 / 3)
    assert found["macro_f1"].value == pytest.approx((2 / 3 + 1) / 2)


def test_labels_stand_on_both_sides():
    label = np.array([0] * 6 + [1] * 6 + [2] * 4 + [-1, 0, 1, 2, 3, -1])
    fitted = np.arange(len(label)) < 17
    usable = classify.on_both_sides(label, fitted, ~fitted)
    assert usable.tolist() == [True] * 12 + [False] * 5 + [True, True, False, False, False]
    none = np.full(4, -1)
    assert not classify.on_both_sides(none, np.ones(4, bool), np.zeros(4, bool)).any()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=200))
def test_a_person_is_in_one_fold_and_folds_are_even(people):
    person = np.array(people)
    fold = classify.folds_of(person)
    assert all(len(set(fold[person == one])) == 1 for one in people)
    sizes = np.bincount([fold[person == one][0] for one in set(people)], minlength=5)
    assert sizes.max() - sizes.min() <= 1


def blobs(n=300, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    x = rng.normal(size=(n, 5)) + 4 * np.eye(5)[y]
    return x, y, rng.integers(0, 6, n)


@pytest.mark.parametrize("predict", [classify.knn, classify.logistic, classify.linear_discriminant])
def test_classifiers_tell_what_is_apart(predict):
    x, y, person = blobs()
    assert (classify.across_persons(x, y, person, predict) == y).mean() > 0.9
    shuffled = np.random.default_rng(1).permutation(y)
    assert (classify.across_persons(x, shuffled, person, predict) == shuffled).mean() < 0.5


def test_no_cell_is_told_by_its_own_person():
    """Each person has a label of its own place: who sees another's cells alone must be wrong."""
    person = np.repeat(np.arange(10), 30)
    y = person % 2
    x = np.eye(10)[person] * 10 + np.random.default_rng(0).normal(size=(300, 10))
    found = classify.across_persons(x, y, person, lambda x, y, new: np.full(len(new), len(np.unique(x.argmax(1)))))
    assert set(found) == {8}  # two of ten persons are never among those that a fold's classifier saw


def test_batches_of_twenty_cells_are_told():
    batch = np.repeat([0, 1, 2], [19, 40, 300])
    fitted, scored = classify.batch_sides(batch, np.arange(359, dtype=np.uint64))
    assert not (fitted | scored)[batch == 0].any()
    assert (fitted ^ scored)[batch > 0].all()
    assert 0.1 < scored.sum() / 340 < 0.3
