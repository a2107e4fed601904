"""Choosing samples and cutting chunks: what must hold for any census."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from censusformer.census import choose
from censusformer.census.choose import Choice, Rules, Sample
from censusformer.errors import InputError

DONORS = st.text("ab1'\"/:;ü \n", min_size=1, max_size=6)


@st.composite
def censuses(draw, least=1, most=40):
    """Samples of a few datasets; some share a person, some are too small or have no donor's name."""
    donors = draw(st.lists(st.integers(0, 60), min_size=least, max_size=most, unique=True))
    samples = []
    for donor in donors:
        name = draw(st.sampled_from([f"donor {donor}", "unknown"])) if donor % 10 == 0 else f"donor {donor}"
        person = draw(st.integers(0, 30))
        n_cells = draw(st.integers(1, 900))
        samples.append(Sample(f"set{donor % 4}-{donor}", name, n_cells, frozenset({f"person {person}"})))
    return samples


def sample_rules(**changes):
    return Rules(**{"seed": 3, "test_cells": 0, "min_cells_per_sample": 20, "max_cells_per_sample": 800} | changes)


def chosen(choices, status):
    return [choice.sample for choice in choices if choice.status == status]


def total(samples):
    return sum(sample.n_cells for sample in samples)


def try_choose(samples, rules):
    try:
        return choose.choose(samples, rules)
    except InputError:
        return None


RUNS = settings(max_examples=60, deadline=None)


@RUNS
@given(censuses(), st.integers(1, 20_000), st.integers(0, 2000))
def test_every_sample_has_one_fate_and_the_cap_is_never_passed(samples, max_cells, test_cells):
    rules = sample_rules(max_cells=max_cells, test_cells=test_cells)
    choices = try_choose(samples, rules)
    if choices is None:
        return
    assert sorted(choice.sample.name for choice in choices) == sorted(sample.name for sample in samples)
    taken = chosen(choices, "train") + chosen(choices, "test")
    assert total(taken) <= max_cells
    assert all(20 <= sample.n_cells <= 800 and sample.donor_id != "unknown" for sample in taken)
    assert all(bool(choice.reason) == (choice.status == "out") for choice in choices)
    eligible = total(sample for sample in samples if 20 <= sample.n_cells <= 800 and sample.donor_id != "unknown")
    assert total(chosen(choices, "test")) <= min(test_cells, eligible / 10)


@RUNS
@given(censuses(least=5), st.integers(1, 15_000), st.integers(0, 15_000), st.integers(0, 2000))
def test_sets_are_nested_and_the_test_set_does_not_depend_on_the_cap(samples, max_cells, more, test_cells):
    small = try_choose(samples, sample_rules(max_cells=max_cells, test_cells=test_cells))
    large = try_choose(samples, sample_rules(max_cells=max_cells + more, test_cells=test_cells))
    if small is None:
        return
    for choices in (large, choose.choose(samples, sample_rules(max_cells=None, test_cells=test_cells))):
        assert set(chosen(small, "train")) <= set(chosen(choices, "train"))
        assert chosen(small, "test") == chosen(choices, "test")


@RUNS
@given(censuses(), st.integers(0, 2000))
def test_no_person_stands_on_both_sides(samples, test_cells):
    choices = try_choose(samples, sample_rules(test_cells=test_cells))
    if choices is None:
        return
    tested = {person for sample in chosen(choices, "test") for person in sample.persons}
    assert not tested & {person for sample in chosen(choices, "train") for person in sample.persons}
    for choice in choices:
        if choice.reason == "the person is in the test set":
            assert choice.sample.persons & tested


@RUNS
@given(censuses(), st.randoms(use_true_random=False), st.integers(0, 2000))
def test_the_order_of_the_input_does_not_matter(samples, random, test_cells):
    shuffled = list(samples)
    random.shuffle(shuffled)
    rules = sample_rules(max_cells=6000, test_cells=test_cells)
    assert try_choose(samples, rules) == try_choose(shuffled, rules)
    assert choose.chunks(samples, 3, 1000) == choose.chunks(shuffled, 3, 1000)


def test_the_order_is_that_of_the_design():
    samples = [Sample(f"d{i}", f"p{i}", 100) for i in range(20)]
    by_hash = sorted(samples, key=lambda s: hashlib.sha256(f"7:{s.dataset_id}:{s.donor_id}".encode()).hexdigest())
    choices = choose.choose(samples, Rules(seed=7, test_cells=250, max_cells=1000))
    assert [choice.sample for choice in choices] == by_hash
    statuses = [choice.status for choice in choices]
    assert statuses == ["train"] * 8 + ["out"] * 10 + ["test"] * 2  # a tenth of 2,000 cells is 200
    assert {choice.reason for choice in choices[8:18]} == {choose.OVER_CAP}


def test_training_stops_at_the_first_sample_that_would_pass_the_cap():
    samples = [Sample("d", f"p{i}", 100) for i in range(8)]
    order = choose.choose(samples, Rules())
    large = order[3].sample
    grown = [Sample("d", s.donor_id, 700 if s == large else 100) for s in samples]
    choices = choose.choose(grown, Rules(max_cells=800))
    assert [choice.status for choice in choices] == ["train"] * 3 + ["out"] * 5


def test_the_test_set_skips_a_sample_that_is_too_large():
    samples = [Sample("d", f"p{i}", 100) for i in range(30)]
    last = choose.choose(samples, Rules())[-1].sample
    grown = [Sample("d", s.donor_id, 500 if s == last else 100) for s in samples]
    choices = choose.choose(grown, Rules(test_cells=250))
    assert [choice.status for choice in choices[-4:]] == ["train", "test", "test", "train"]


def test_datasets_held_out_whole_come_first():
    samples = [Sample(f"d{i % 5}", f"p{i}", 100, frozenset({f"p{i}"})) for i in range(50)]
    choices = choose.choose(samples, Rules(test_cells=200, test_datasets=("d1",)))
    assert {s.name for s in chosen(choices, "test")} == {s.name for s in samples if s.dataset_id == "d1"}
    choices = choose.choose(samples, Rules(test_cells=0, test_datasets=("d1",)))
    assert {s.dataset_id for s in chosen(choices, "test")} == {"d1"}


@pytest.mark.parametrize("donor", ["unknown", "Pooled", " na ", "", "nan", "NA"])
def test_unnamed_donors_are_no_samples_unless_asked_for(donor):
    samples = [Sample("d", donor, 100), Sample("d", "named", 100)]
    choices = {choice.sample.donor_id: choice for choice in choose.choose(samples, Rules())}
    assert choices[donor].status == "out"
    assert "donor" in choices[donor].reason
    assert {c.status for c in choose.choose(samples, Rules(unnamed_donors=True))} == {"train"}


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (Rules(test_cells=60), ["census.test_cells = 60", "smallest sample has 100", "to 0"]),
        (Rules(test_cells=300, max_cells=500), ["over half", "census.max_cells = 500"]),
        (Rules(test_cells=0, max_cells=90), ["no sample is left for training", "census.max_cells = 90"]),
        (Rules(test_datasets=("d9",)), ["census.test_datasets", "'d9'"]),
        (Rules(min_cells_per_sample=101), ["fewer than 101 cells (40)", "census.min_cells_per_sample"]),
        (Rules(test_cells=100, test_datasets=("d",)), ["no sample is left for training", "belong to the test set"]),
    ],
)
def test_errors_name_the_key_to_change(rules, words):
    samples = [Sample("d", f"p{i}", 100) for i in range(40)]
    with pytest.raises(InputError) as caught:
        choose.choose(samples, rules)
    for word in words:
        assert word in str(caught.value)


def test_two_samples_of_one_name_are_refused():
    with pytest.raises(InputError, match="called 'a:b:c'"):
        choose.choose([Sample("a:b", "c", 100), Sample("a", "b:c", 100)], Rules())


def test_persons_come_from_obs_else_from_the_collection():
    samples = [("s1", "d1"), ("s2", "d1"), ("s3", "d1"), ("s4", "d2"), ("s5", "d3")]
    collections = ["c1", "c1", "c2", "c2", "c2"]
    known = [{"Ann"}, {"unknown"}, set(), {"Ann", "na"}, {"unknown"}]
    people = choose.persons(samples, collections, known)
    assert people == [{"Ann"}, {"Ann"}, {"c2:d1"}, {"Ann"}, {"c2:d3"}]


@RUNS
@given(censuses(least=0), st.integers(1, 4000))
def test_chunks_hold_each_sample_once_and_whole(samples, target):
    cut = choose.chunks(samples, 3, target)
    assert sorted(s.name for chunk in cut for s in chunk) == sorted(s.name for s in samples)
    assert all(chunk for chunk in cut)
    assert all(len(chunk) == 1 for chunk in cut if max(s.n_cells for s in chunk) > target)
    small = [chunk for chunk in cut if max(s.n_cells for s in chunk) <= target]
    assert len(small) <= 1 or min(total(chunk) for chunk in small) >= 0.6 * target


@settings(max_examples=200, deadline=None)
@given(censuses(least=2, most=60), st.integers(1, 3000), st.data())
def test_one_sample_more_or_less_changes_at_most_two_chunks(samples, target, data):
    gone = data.draw(st.sampled_from(samples))
    before = set(map(frozenset, choose.chunks(samples, 3, target)))
    after = set(map(frozenset, choose.chunks([s for s in samples if s != gone], 3, target)))
    assert len(before - after) <= 2
    assert len(after - before) <= 1


@RUNS
@given(censuses(least=3, most=60), st.integers(1, 8000), st.integers(0, 8000), st.integers(100, 3000))
def test_a_larger_cap_refills_at_most_one_chunk(samples, max_cells, more, target):
    pair = [try_choose(samples, sample_rules(max_cells=cap, test_cells=300)) for cap in (max_cells, max_cells + more)]
    if None in pair:
        return
    small, large = ([frozenset(chunk) for chunk in choose.training_chunks(c, 3, target)] for c in pair)
    assert len(set(small) - set(large)) <= 1
    held_out = [choose.held_out_chunks(c, 3, target) for c in pair]
    assert held_out[0] == held_out[1]
    assert {s for chunk in small for s in chunk} == set(chosen(pair[0], "train"))


def test_chunks_have_about_the_size_asked_for():
    samples = [Sample(f"d{i % 9}", f"p{i}", 50 + i * 37 % 1000) for i in range(600)]
    sizes = [total(chunk) for chunk in choose.chunks(samples, 0, 10_000)]
    assert 0.7 <= len(sizes) / (total(samples) / 10_000) <= 1.4
    assert max(sizes) <= 30_000


def test_reasons_are_counted():
    choices = [Choice(Sample("d", "a", 5), "out", "x"), Choice(Sample("d", "b", 7), "out", "x")]
    choices += [Choice(Sample("d", "c", 9), "out", "y"), Choice(Sample("d", "e", 1), "train")]
    assert choose.left_out(choices) == [("x", 2, 12), ("y", 1, 9)]


@RUNS
@given(st.lists(st.tuples(DONORS, DONORS), min_size=1, max_size=8, unique_by=":".join))
def test_strange_names_are_data(names):
    samples = [Sample(dataset, donor, 100) for dataset, donor in names]
    choices = choose.choose(samples, Rules(unnamed_donors=True))
    assert {choice.sample for choice in choices} == set(samples)
