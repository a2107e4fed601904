import json

import numpy as np
import pandas as pd
import pytest

from censusformer.evaluation.reconstruction import BASELINES, COLUMNS, HEADS, Labels, measure, summary, table

PREDICTORS = {*BASELINES, "model", "tie_floor"}


def noise(cell, gene, dataset, rng):
    return rng.integers(1, 51, len(cell))


@pytest.fixture(name="parts", scope="module")
def _parts(cells_of):
    """Two ratios of 60 cells in 12 samples, the last four of unseen data sets; GEP is good, GEPC bad."""
    labels = Labels(np.arange(60) % 12, np.arange(12) < 8, np.full(60, 3.0))
    measured, masked = [], []
    for ratio in (0.25, 0.75):
        cells = cells_of([20] * 60, noise, share=ratio, seed=int(ratio * 100))
        rng = np.random.default_rng(7)
        predictions = {(None, name): cells.target + rng.normal(5, 1, len(cells.target)) for name in BASELINES}
        predictions["gep", "model"] = cells.target + 2.0
        predictions["gepc", "model"] = cells.target + rng.normal(0, 20, len(cells.target))
        measured.append(measure(cells, labels, predictions, ratio))
        masked.append(cells)
    return labels, measured, masked


@pytest.fixture(name="frame", scope="module")
def _frame(parts):
    labels, measured, _ = parts
    return table("test", measured, labels.groups())


def test_columns_and_rows(frame):
    assert tuple(frame.columns) == COLUMNS
    assert set(frame["predictor"]) == PREDICTORS
    assert set(frame["metric"]) == {"mse", "mae", "r2", "spearman_cell", "spearman_gene", "reducible_removed"}
    keys = ["seen_dataset", "mask_ratio", "head", "predictor", "metric"]
    assert not frame.duplicated(keys).any()
    assert len(frame[frame["metric"] == "mse"]) == 3 * 3 * 2 * 7
    assert set(frame.loc[frame["predictor"] == "tie_floor", "metric"]) == {"mse"}


def test_a_baseline_has_the_same_row_for_each_head(frame):
    rows = frame[frame["predictor"] != "model"]
    gep, gepc = (rows[rows["head"] == head].drop(columns="head").reset_index(drop=True) for head in HEADS)
    pd.testing.assert_frame_equal(gep, gepc)


def test_values_are_means_over_masked_positions(frame, parts):
    labels, _, masked = parts
    rows = frame[(frame["predictor"] == "model") & (frame["head"] == "gep") & (frame["metric"] == "mse")]
    assert rows["value"].tolist() == pytest.approx([4.0] * 9)
    for cells, ratio in zip(masked, (0.25, 0.75), strict=True):
        for seen in (True, False):
            n = np.count_nonzero(labels.seen[labels.sample[cells.target_cell]] == seen)
            assert rows.loc[(rows["mask_ratio"] == ratio) & (rows["seen_dataset"] == seen), "n"].tolist() == [n]
    everything = rows[rows["seen_dataset"].isna() & rows["mask_ratio"].isna()]
    assert everything["n"].tolist() == [sum(len(cells.target) for cells in masked)]


@pytest.mark.parametrize("metric", ["mse", "mae", "spearman_cell"])
def test_rows_over_all_are_means_weighted_by_n(frame, metric):
    rows = frame[(frame["predictor"] == "model") & (frame["head"] == "gepc") & (frame["metric"] == metric)]
    single = rows[rows["seen_dataset"].notna() & rows["mask_ratio"].notna()]
    over_all = rows[rows["seen_dataset"].isna() & rows["mask_ratio"].isna()]
    assert over_all["value"].iloc[0] == pytest.approx(np.average(single["value"], weights=single["n"]))
    assert over_all["n"].iloc[0] == single["n"].sum()


def test_intervals_stand_where_samples_are_enough(frame):
    rows = frame[frame["metric"] == "mse"]
    enough = rows["seen_dataset"].ne(False).fillna(True)  # eight samples and all twelve; four are too few
    assert rows.loc[enough, "low"].notna().all()
    assert (rows.loc[enough, "low"] <= rows.loc[enough, "value"]).all()
    assert (rows.loc[enough, "high"] >= rows.loc[enough, "value"]).all()
    assert rows.loc[~enough, "low"].isna().all()


def test_one_kind_of_data_set_has_no_rows_over_both():
    labels = Labels(np.array([0, 1]), np.array([True, True, False]), np.zeros(2))
    assert [seen for seen, _ in labels.groups()] == [True]


def test_summary_says_who_wins(frame, parts):
    found = summary(frame, "test", parts[1])
    json.dumps(found, allow_nan=False)
    assert found["gep"]["beats_all"]
    assert not found["gepc"]["beats_all"]
    for head in HEADS:
        assert set(found[head]["baselines"]) == set(BASELINES)
        for other in found[head]["baselines"].values():
            assert other["beats"] == (found[head]["model"]["mse"] < other["mse"])
            assert other["difference"] == pytest.approx(other["mse"] - found[head]["model"]["mse"])
    assert found["gep"]["tie_floor"] == pytest.approx(3)
    base = found["gep"]["baselines"]["gene_mean"]["mse"]
    assert found["gep"]["model"]["reducible_removed"] == pytest.approx((base - 4) / (base - 3))


def test_a_difference_is_drawn_on_the_same_samples(frame, parts):
    """The noise that model and baseline share cancels: theirs is narrower than either's own interval."""
    labels, measured, masked = parts
    shared = []
    for cells, part in zip(masked, measured, strict=True):
        effect = np.random.default_rng(9).normal(0, 15, 12)[labels.sample[cells.target_cell]]
        predictions = {(None, name): cells.target + effect + 1 for name in BASELINES}
        predictions |= {(head, "model"): cells.target + effect for head in HEADS}
        shared.append(measure(cells, labels, predictions, part.mask_ratio))
    found = summary(table("test", shared, labels.groups()), "test", shared)["gep"]
    other = found["baselines"]["ridge"]
    assert other["low"] <= other["difference"] <= other["high"]
    assert other["high"] - other["low"] < 0.3 * (found["model"]["high"] - found["model"]["low"])
    gepc = summary(frame, "test", measured)["gepc"]["baselines"]["ridge"]
    assert gepc["high"] < 0
    assert not gepc["beats"]
