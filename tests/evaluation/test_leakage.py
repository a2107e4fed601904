import numpy as np
import pytest

from censusformer.evaluation import leakage
from censusformer.evaluation.leakage import Side
from censusformer.hashing import splitmix64, words

WORDS = words(f"gene{i}" for i in range(9))


def side(lists, keys, counts=None):
    offsets = np.cumsum([0, *map(len, lists)])
    genes = leakage.hash_sets(offsets, np.concatenate(lists).astype(np.uint16), WORDS)
    counts = None if counts is None else np.array(counts, np.uint64)
    return Side(np.array(keys, np.uint64), genes, np.diff(offsets), counts)


def test_sets_of_genes_have_one_hash_whatever_their_order():
    one = side([[1, 2, 3], [3, 1, 2], [1, 2], [4, 5, 6], [2, 1]], range(5)).genes
    assert one[0] == one[1] and one[2] == one[4]
    assert len(set(one.tolist())) == 3


def test_blocks_of_cells_change_no_hash(monkeypatch):
    rng = np.random.default_rng(0)
    lists = [rng.choice(9, size, replace=False) for size in rng.integers(0, 9, 40)]
    whole = side(lists, range(40)).genes
    monkeypatch.setattr(leakage, "BLOCK_CELLS", 7)
    assert np.array_equal(side(lists, range(40)).genes, whole)
    words = [sum(int(splitmix64(WORDS[gene : gene + 1])[0]) for gene in genes) % 2**64 for genes in lists]
    assert whole.tolist() == words


def test_what_two_splits_share_is_counted():
    train = side([[0, 1, 2], [3, 4], [5, 6, 7]], [1, 2, 3], [10, 20, 30])
    test = side([[2, 1, 0], [3, 5], [7, 5, 6, 8]], [4, 3, 5], [11, 30, 20])
    valid = side([[8]], [6], [99])
    found = leakage.cells({"train": train, "valid": valid, "test": test})
    assert [(pair["one"], pair["other"]) for pair in found] == [
        ("train", "valid"),
        ("train", "test"),
        ("valid", "test"),
    ]
    pair = found[1]
    assert (pair["same_key"], pair["same_counts"], pair["same_genes"], pair["longest"]) == (1, 2, 1, 3)
    assert pair["n"] == [3, 3]
    assert pair["named"] == ["0000000000000003", "0000000000000005"]
    assert found[0]["same_key"] == found[0]["same_counts"] == 0
    assert "2 of 3 test cells have exactly the raw counts of a cell in train" in leakage.copies({"cells": found})[0]


def test_without_counts_copies_are_not_known():
    (pair,) = leakage.cells({"train": side([[1]], [1]), "test": side([[1]], [2])})
    assert (pair["same_counts"], pair["same_genes"]) == (None, 1)
    assert leakage.copies({"cells": [pair]}) == []


def test_a_person_of_several_names_is_found_on_both_sides():
    found = leakage.persons(["train", "train", "test", "out"], ["a; b", "c", "b; d", "c"])
    assert found == {"recorded": True, "train": 3, "test": 2, "shared": ["b"]}
    assert leakage.persons(["train"], None)["recorded"] is False


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"persons": {"shared": ["b"]}, "cells": []}, "b: persons of both training and test"),
        ({"samples": {"shared": list("abcdefg")}, "cells": []}, "a, b, c, d, e and 2 more: samples of both"),
        ({"cells": [{"one": "train", "other": "test", "same_key": 2, "named": ["1f"]}]}, "2 cells (such as 1f) are in"),
        ({"persons": {"shared": []}, "cells": [{"same_key": 0}]}, None),
    ],
)
def test_what_is_refused(content, said):
    found = leakage.refusal(content)
    assert found is None if said is None else said in found
