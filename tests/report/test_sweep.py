"""Settings of a sweep: how runs are gathered, named and compared."""

import pytest
from sweep_runs import BASE, by_sample, metrics

from censusformer.config import flatten
from censusformer.report.sweep import Sweep, SweepRun, headline, shown, text
from censusformer.report.sweep_page import render

ARGS = {
    "data": {"train_cells": 10},
    "parameters": {"total": 5, "non_embedding": 3},
    "result": {"steps": 4, "seconds": 9},
}


def sweep_of(*entries, criterion="valid.gep.mse", splits=("valid", "test")):
    """Runs of (changes, GEP's error)."""
    runs = []
    for i, (changes, error) in enumerate(entries):
        sums = by_sample((error, error))
        settings = {key: value for key, value in {**flatten(BASE), **changes}.items() if not key.startswith("evaluate")}
        runs.append(SweepRun(f"d/r{i}", settings, args=ARGS, metrics=metrics(300, error, 90),
                             by_sample=sums[sums["split"].isin(splits)]))  # fmt: skip
    return Sweep("s", criterion, tuple(runs))


ONE_AT_A_TIME = [({}, 100), ({"model.dropout": 0.3}, 90), ({"model.d_model": 64}, 95), ({"binning.ties": "middle"}, 99)]


def test_the_reference_differs_least_from_all():
    sweep = sweep_of(*ONE_AT_A_TIME[1:], ONE_AT_A_TIME[0])
    assert sweep.reference().group.name == "d/r3"
    assert [setting.label for setting in sweep.settings()] == [
        "model.dropout 0.3", "model.d_model 64", "binning.ties middle", "reference"]  # fmt: skip
    assert sweep.varied == ["binning.ties", "model.d_model", "model.dropout"]


def test_of_equals_the_first_is_the_reference():
    assert sweep_of(({"model.dropout": 0.0}, 9), ({"model.dropout": 0.5}, 8)).reference().varied == {
        "model.dropout": 0.0
    }


def test_seeds_make_one_setting():
    sweep = sweep_of(*(({"train.seed": seed, "model.dropout": d}, 90 + seed) for seed in (0, 1) for d in (0, 0.5)))
    assert [len(setting.runs) for setting in sweep.settings()] == [2, 2]
    curve = sweep.settings()[0].curve
    assert curve["valid"].iloc[-1] == pytest.approx(90.5, abs=4) and len(curve) == 4


@pytest.mark.parametrize(
    ("criterion", "best"),
    [("valid.gep.mse", "d/r1"), ("test.gepc.reducible_removed", "d/r1"), ("valid.gep.mae", "d/r0")],
)
def test_the_best_is_best_by_the_criterion(criterion, best):
    """Lower errors and higher shares are better; equal settings keep their order."""
    assert sweep_of(*ONE_AT_A_TIME, criterion=criterion).ranked()[0].group.name == best


def test_without_held_out_samples_validation_stands_in():
    sweep = sweep_of(*ONE_AT_A_TIME, criterion="test.gep.mse", splits=("valid",))
    assert sweep.wanted == ("valid", "gep", "mse")
    assert "on validation cells" in headline(sweep)


def test_validation_cells_that_differ_are_told():
    """Not so other bins of the same cells."""
    sweep = sweep_of(*ONE_AT_A_TIME, criterion="valid.gep.reducible_removed")
    assert "Validation cells differ" not in render(sweep)
    more = sweep.runs[0].by_sample
    sweep.runs[0].by_sample["n"] = more["n"].where(more["split"] == "test", 2 * more["n"])
    assert "Validation cells differ" in render(Sweep(sweep.name, sweep.criterion, sweep.runs))


def test_one_setting_says_so():
    assert headline(sweep_of(({}, 100))) == "One setting: mean squared error 100.69 with GEP on validation cells."


@pytest.mark.parametrize(
    ("value", "said"), [(None, "null"), (True, "true"), ([0.1, 0.5], "0.1, 0.5"), (3, "3"), ("a b", "a b")]
)
def test_values_of_settings(value, said):
    assert text(value) == said


def test_values_of_metrics():
    assert (shown(0.1234, "reducible_removed"), shown(12.3456, "mse"), shown(0.5, "r2")) == (
        "12.3\u00a0%",
        "12.35",
        "0.500",
    )
    assert shown(float("nan"), "mse") == "-"
