import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from censusformer.report import tables

GENES = st.sets(st.integers(0, 30), min_size=1, max_size=20)


def reconstruction(rows) -> pd.DataFrame:
    columns = ["split", "seen_dataset", "mask_ratio", "head", "predictor", "metric", "value", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns).astype({"seen_dataset": "boolean"})


@settings(max_examples=30, deadline=None)
@given(st.lists(GENES, min_size=1, max_size=6))
def test_jaccard_is_shared_over_all(lists):
    names = [f"s{i}" for i in range(len(lists))]
    hvg = pd.DataFrame([(name, gene) for name, genes in zip(names, lists, strict=True) for gene in sorted(genes)],
                       columns=["sample", "feature_id"])  # fmt: skip
    values = tables.jaccard(tables.membership(hvg, names))
    expected = [[len(one & other) / len(one | other) for other in lists] for one in lists]
    np.testing.assert_allclose(values, expected)


def test_membership_takes_the_samples_that_are_asked_for_in_their_order():
    hvg = pd.DataFrame({"sample": ["a", "b", "b", "c"], "feature_id": ["g1", "g1", "g2", "g3"]}).astype("category")
    member = tables.membership(hvg, ["b", "a"])
    assert member.sum(1).tolist() == [2, 1]
    assert not member[:, 2].any()


def test_jaccard_of_random_lists_is_near_what_chance_says():
    rng = np.random.default_rng(0)
    member = np.array([rng.permutation(1000) < 200 for _ in range(40)])
    within, between = tables.pairs(tables.jaccard(member), np.arange(40) // 20)
    assert (len(within), len(between)) == (380, 400)
    assert np.mean(between) == pytest.approx(tables.chance_jaccard(member.sum(1), 1000), rel=0.02)


def test_samples_are_counted_by_reason():
    samples = pd.DataFrame({"status": ["out", "train", "out", "test", "out"], "n_cells": [5, 10, 7, 3, 90],
                            "reason": ["small", None, "small", "", "cap"]})  # fmt: skip
    found = tables.by_reason(samples)
    assert found.to_numpy().tolist() == [["train", "", 1, 10], ["test", "", 1, 3], ["out", "cap", 1, 90],
                                         ["out", "small", 2, 12]]  # fmt: skip


def test_qc_lists_chosen_samples_even_where_no_cell_was_kept():
    samples = pd.DataFrame({"sample": ["b", "a", "gone"], "dataset_id": "d", "status": ["train", "test", "train"],
                            "n_cells": [3, 2, 4]})  # fmt: skip
    cells = pd.DataFrame({"sample": ["a", "b", "b"], "n_counts": [10, 20, 40], "n_genes": [5, 8, 10]}).astype(
        {"sample": "category"}
    )
    qc = tables.qc_by_sample(cells, samples)
    assert qc[["sample", "n_kept"]].to_numpy().tolist() == [["a", 1], ["b", 2], ["gone", 0]]
    assert qc["counts"].tolist()[:2] == [10, 30]
    assert qc["genes"].tolist()[:2] == [5, 9]
    assert np.isnan(qc["genes"][2])


def test_errors_are_pooled_by_the_number_of_masked_values():
    rows = [("test", True, 0.25, "gep", "model", "mse", 100.0, 90.0, 110.0, 10),
            ("test", True, 0.75, "gep", "model", "mse", 200.0, 190.0, 210.0, 30),
            ("valid", True, 0.25, "gep", "model", "mse", 1.0, 0.0, 2.0, 10),
            ("test", True, 0.25, "gep", "model", "mae", 7.0, 6.0, 8.0, 10)]  # fmt: skip
    table = tables.errors(reconstruction(rows), "test")
    assert table["mse"].tolist() == [100.0, 200.0, 175.0]
    assert table["n"].tolist() == [10, 30, 40]
    assert table["low"].isna().tolist() == [False, False, True]
    assert table["mask_ratio"].isna().tolist() == [False, False, True]


def test_what_the_evaluation_pooled_itself_is_taken_as_it_is():
    rows = [("test", seen, ratio, "gep", "model", "mse", value, value - 1, value + 1, 10)
            for seen, ratio, value in [(True, 0.5, 1.0), (False, 0.5, 3.0), (None, 0.5, 2.5), (None, np.nan, 2.6),
                                       (True, np.nan, 1.1), (False, np.nan, 3.1)]]  # fmt: skip
    both = tables.errors(reconstruction(rows), "test")
    assert both["mse"].tolist() == [2.5, 2.6]
    assert both["low"].tolist() == [1.5, 1.6]
    assert tables.errors(reconstruction(rows), "test", seen=False)["mse"].tolist() == [3.0, 3.1]
    assert tables.overall(reconstruction(rows), "test", "mse")["value"].tolist() == [2.6]


def test_baselines_have_one_row_and_the_model_one_a_head():
    rows = [("valid", True, ratio, head, name, "mse", value + 10 * ratio, np.nan, np.nan, 10)
            for ratio in (0.75, 0.25) for head in ("gep", "gepc")
            for name, value in (("model", 5.0), ("ridge", 7.0), ("constant", 9.0), ("tie_floor", 8.0))]  # fmt: skip
    wide = tables.wide(tables.errors(reconstruction(rows), "valid"))
    assert wide.index.tolist() == [
        ("constant", ""),
        ("ridge", ""),
        ("model", "gep"),
        ("model", "gepc"),
        ("tie_floor", ""),
    ]
    assert wide.columns.tolist() == [0.25, 0.75, np.inf]
    assert wide.loc[("ridge", "")].tolist() == [9.5, 14.5, 12.0]


def test_a_baseline_whose_heads_differ_keeps_both():
    rows = [
        ("valid", True, 0.5, head, "ridge", "mse", value, np.nan, np.nan, 10)
        for head, value in (("gep", 1.0), ("gepc", 2.0))
    ]
    assert tables.wide(tables.errors(reconstruction(rows), "valid")).index.tolist() == [
        ("ridge", "gepc"),
        ("ridge", "gep"),
    ]


def test_resources_are_summed_by_rule():
    jobs = pd.DataFrame({"rule": ["hvg", "pretrain", "hvg"], "s": [1.0, 9.0, 2.0], "cpu_time": [1.0, np.nan, 1.0],
                         "max_rss": [50.0, np.nan, 70.0]})  # fmt: skip
    found = tables.resources(jobs)
    assert found["rule"].tolist() == ["pretrain", "hvg"]
    assert found.loc[1, ["jobs", "seconds", "longest", "cpu", "memory"]].tolist() == [2, 3.0, 2.0, 2.0, 70.0]
    assert np.isnan(found.loc[0, "cpu"])
