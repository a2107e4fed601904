import math

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from censusformer import sweeps
from censusformer.config import flatten
from censusformer.errors import InputError


@pytest.fixture(scope="module")
def base(root):
    return yaml.safe_load((root / "config.yaml").read_text())


def test_without_a_sweep_the_config_is_the_only_run(base, schema):
    for nothing in ({}, {"sweep": []}, {"sweep": {}}, {"sweep": None}):
        found = sweeps.read_sweep({**base, **nothing}, schema)
        assert (list(found.runs), found.name) == ([("demo", "base")], None)
        assert found.runs["demo", "base"] == flatten(base)


def test_a_list_of_overrides(base, schema):
    sweep = [{}, {"model.dropout": "0.2", "train": {"seed": 2}}, {"hvg": {"n_top": 600}}]
    found = sweeps.read_sweep({**base, "sweep": sweep}, schema)
    assert list(found.runs) == [
        ("demo", "base"),
        ("demo", "base-model.dropout_0.2-train.seed_2"),
        ("demo-hvg.n_top_600", "base"),
    ]
    assert found.runs["demo", "base-model.dropout_0.2-train.seed_2"]["model.dropout"] == 0.2
    assert (found.name, found.criterion) == ("demo-base", sweeps.CRITERION)


def test_a_grid_and_a_list_of_grids(base, schema):
    grid = {"model.dropout": [0, 0.1, 0.2], "train": {"seed": ["1", "2"]}}
    found = sweeps.read_sweep({**base, "sweep": grid}, schema)
    assert [name for _, name in found.runs] == [
        "base-model.dropout_0-train.seed_1", "base-model.dropout_0-train.seed_2", "base-train.seed_1",
        "base-train.seed_2", "base-model.dropout_0.2-train.seed_1", "base-model.dropout_0.2-train.seed_2",
    ]  # fmt: skip
    assert not found.embeddings
    two = {
        "name": "n",
        "criterion": "test.gep.mse",
        "embeddings": True,
        "runs": [grid, {"hvg.n_top": [600, 700], "census.seed": 1}],
    }
    found = sweeps.read_sweep({**base, "sweep": two}, schema)
    assert (len(found.runs), found.name, found.criterion) == (8, "n", "test.gep.mse") and found.embeddings
    assert ("demo-census.seed_1-hvg.n_top_700", "base") in found.runs


def test_keys_that_take_lists(base, schema):
    """One list is one value; several are a list of lists."""
    one = sweeps.read_sweep({**base, "sweep": {"mask.ratios": [0.3, 0.6], "train.seed": 1}}, schema)
    assert [run["mask.ratios"] for run in one.runs.values()] == [[0.3, 0.6]]
    two = sweeps.read_sweep({**base, "sweep": {"mask.ratios": [[0.3], ["0.6", 0.7]]}}, schema)
    assert [run["mask.ratios"] for run in two.runs.values()] == [[0.3], [0.6, 0.7]]
    assert ("demo", "base-mask.ratios_0.6+0.7") in two.runs
    own = {**base, "census": {**base["census"], "uri": None, "h5ad": ["x.h5ad"]}}
    sweep = {"census.h5ad": [["a.h5ad"], ["a.h5ad", "b.h5ad"]]}
    assert len(sweeps.read_sweep({**own, "sweep": sweep}, schema).runs) == 2


@pytest.mark.parametrize(("name", "settings", "datasets"), [("regularisation", 7, 3), ("scaling", 4, 4)])
def test_shipped_studies_have_three_seeds_each(root, schema, name, settings, datasets):
    found = sweeps.read_sweep(yaml.safe_load((root / f"presets/{name}.yaml").read_text()), schema)
    assert found.name == name and len({dataset for dataset, _ in found.runs}) == datasets
    seeds = {}
    for run in found.runs.values():
        rest = tuple((key, str(value)) for key, value in run.items() if key not in ("train.seed", "run"))
        seeds.setdefault(rest, set()).add(run["train.seed"])
    assert list(seeds.values()) == [{0, 1, 2}] * settings


def test_names_are_safe_and_differ():
    odd = {"census.filter": "tissue == 'a/b'"}
    assert "/" not in sweeps.name_of("demo", odd) and "=" not in sweeps.name_of("demo", odd)
    assert sweeps.name_of("demo", odd) != sweeps.name_of("demo", {"census.filter": "tissue == 'a_b'"})


def test_a_long_name_is_cut_and_stays_a_name(base, schema):
    paths = [f"results/{'long' * 40}/{i}/best_model.pt" for i in range(2)]
    found = sweeps.read_sweep({**base, "sweep": {"train.init_from": [None, *paths]}}, schema)
    assert len({run for _, run in found.runs}) == 3 and max(len(run) for _, run in found.runs) == 100


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ([{"model.droput": 0.1}], "model.droput is no key of the config; did you mean model.dropout"),
        ({"model.droput": [0.1, 0.2]}, "did you mean model.dropout"),
        ({"dataset": [{"": 1}]}, "dataset. is no key of the config"),
        ([{"execution.devices": 2}], "changes no model"),
        ({"evaluate.max_cells": [2, 3]}, "changes no model"),
        ({"embeddings.cells": [200, 300]}, "changes no model"),
        ([{"train.seed": 1}, {"train": {"seed": 1}}], "two combinations are called demo/base-train.seed_1"),
        ({"train.seed": [1, 1]}, "two combinations are called"),
        ({"run": "x", "train.seed": [1, 2]}, "two combinations are called demo/x"),
        ([{"dataset": "x"}, {"dataset": "x", "hvg.n_top": 5, "run": "r"}], "two different preparations"),
        ({"train.lr": [1.0e-3, "x"]}, "train.lr: 'x' is not allowed; allowed: number, over 0"),
        ({"mask.ratios": [[0.5], [1.5]]}, "mask.ratios.item 1: 1.5 is not allowed"),
        ({"run": ["a", "shards"]}, "may not be called shards"),
        ({"train.seed": list(range(100)), "model.n_layers": list(range(1, 101))}, "10,000 combinations are more than"),
        ({"train.seed": []}, "train.seed has no value"),
        ({"name": "a/b", "train.seed": [1]}, "sweep.name: 'a/b' is not allowed"),
        ({"criterion": "loss", "train.seed": [1]}, "sweep.criterion: 'loss' is not allowed"),
        ({"embeddings": "some", "train.seed": [1]}, "sweep.embeddings: 'some' is not allowed"),
        ({"runs": [{"train.seed": 1}], "model.dropout": 0.1}, "model.dropout stands beside `runs`"),
        ({"runs": 3}, "sweep.runs: a grid"),
        ([3], "sweep.runs: a grid"),
        ("grid", "sweep: 'grid' is not allowed; allowed: list like"),
    ],
)
def test_bad_sweeps_end_in_one_message(base, schema, sweep, said):
    with pytest.raises(InputError) as error:
        sweeps.read_sweep({**base, "sweep": sweep}, schema)
    assert said in str(error.value) and len(str(error.value).splitlines()) <= 2


values = st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=3), st.lists(st.integers(0, 3), max_size=3))


@settings(max_examples=50)
@given(
    st.one_of(
        st.dictionaries(st.sampled_from(["train.seed", "mask.ratios", "train", "name", "runs", 3]), values, max_size=3),
        st.lists(values, max_size=2),
    )
)
def test_no_sweep_breaks_the_check(base_and_schema, sweep):
    base, schema = base_and_schema
    try:
        found = sweeps.read_sweep({**base, "sweep": sweep}, schema)
    except InputError as error:
        assert len(str(error).splitlines()) <= 7
    else:
        assert all(flatten(base).keys() == run.keys() for run in found.runs.values())


@pytest.fixture(scope="module")
def base_and_schema(base, schema):
    return base, schema


def test_cost_is_said(base, schema):
    found = sweeps.read_sweep({**base, "sweep": {"train.seed": [0, 1, 2], "train.max_steps": [10, None]}}, schema)
    assert [sweeps.cells_to_train(run) for run in found.runs.values()] == [320, 6 * 6500] * 3
    text = sweeps.cost(found, {})
    assert "runs 6, data sets 1, to be trained 6, on 117,960 cells at most" in text
    assert "33 min one after the other, at the 60 cells/s" in sweeps.cost(found, {("demo", "gone"): 60.0})
    assert sweeps.cost(found, dict.fromkeys(found.runs, 5.0)).endswith("to be trained 0")
    endless = sweeps.read_sweep({**base, "sweep": {"census.max_cells": [None]}}, schema)
    assert math.isinf(sweeps.cells_to_train(next(iter(endless.runs.values()))))
    assert "on all cells that select finds" in sweeps.cost(endless, {})
