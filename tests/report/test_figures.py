import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from censusformer.report import figures
from censusformer.report.svg import COLOURS
from censusformer.report.tables import SplitTokens


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=9), st.floats(0.1, 20))
def test_labels_are_moved_apart_and_keep_their_order(positions, gap):
    moved = np.array(figures.spread(positions, gap))
    order = np.argsort(positions, kind="stable")
    assert (np.diff(moved[order]) >= gap - 1e-6).all()
    apart = np.diff(np.sort(positions))
    if len(apart) == 0 or apart.min() >= gap:
        np.testing.assert_allclose(moved, positions)
    assert moved.mean() == pytest.approx(np.mean(positions), abs=1e-6)


def wide() -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples([("constant", ""), ("ridge", ""), ("model", "gep"), ("tie_floor", "")])
    return pd.DataFrame(
        [[200.0, 201.0], [140.0, 141.0], [130.0, 131.5], [30.0, 31.0]], index=index, columns=[0.5, np.inf]
    )


def test_a_figure_shows_its_values_as_text():
    svg = figures.verdict(wide(), "test", {("gep", "ridge"): (2.0, 9.0)})
    texts = re.findall(r">([^<>\n]+)</text>", svg)
    assert {"201.0", "141.0", "131.5", "Model GEP", "Ridge regression", "floor of ties 31.0"} <= set(texts)


def test_a_figure_follows_the_page_in_colours_font_and_names():
    svg = figures.verdict(wide(), "test", {("gep", "ridge"): (2.0, 9.0)})
    assert "var(--gep)" in svg
    assert not re.search("|".join(COLOURS.values()), svg, re.IGNORECASE)
    assert "#000000" not in svg
    assert "DejaVu" not in svg
    ids = re.findall(r'\bid="([^"]*)"', svg)
    assert all(name.startswith("verdict-") for name in ids)
    assert set(re.findall(r"url\(#([^)]*)\)", svg)) <= set(ids)


def test_the_same_figure_is_the_same_text():
    assert figures.by_ratio(wide(), "test") == figures.by_ratio(wide(), "test")


def test_losses_far_above_the_baselines_do_not_stretch_the_frame():
    rows = [("valid", "gep", False, epoch, 100.0 / epoch) for epoch in (1, 2)] + [("train", "gep", True, 0.1, 1e6)]
    metrics = pd.DataFrame(rows, columns=["split", "head", "window", "at", "mse"])
    ticks = re.findall(r">(\d+)</text>", figures.loss(metrics, {"constant": 200.0}, "gep"))
    assert max(map(int, ticks)) < 300


def test_long_names_lose_their_middle():
    assert figures.shorten("a" * 30) == "a" * 30
    assert figures.shorten("a" * 40 + "b" * 40) == "a" * 14 + "…" + "b" * 14


def test_splits_without_cells_are_left_out():
    empty = SplitTokens(0, 0, np.empty(0, np.int64), np.zeros(5, np.int64), np.zeros(3, np.int64), float("nan"))
    full = SplitTokens(2, 5, np.array([2, 3]), np.array([0, 2, 1, 1, 1]), np.array([2, 2, 1]), 1.0)
    tokens = {"train": full, "valid": full, "test": empty}
    assert "held-out test" not in figures.tokens_a_cell(tokens)
    assert "held-out test" not in figures.bins(tokens)
    assert "training: median 2, most 3" in figures.tokens_a_cell(tokens)
