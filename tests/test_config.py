import itertools
import shlex

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from censusformer import config as c
from censusformer.errors import InputError


@pytest.fixture
def base(root):
    return yaml.safe_load((root / "config.yaml").read_text())


def merged(base, **changes):
    return c.nest({**c.flatten(base), **c.flatten(changes)})


def test_config_yaml_is_allowed_and_sets_every_key(base, schema):
    assert c.check(base, schema) == base
    known = {f"{name}.{key}" for name, part in schema["properties"].items() for key in part.get("properties", {})}
    assert {key for key in c.flatten(base) if "." in key} == known


def test_every_key_of_config_yaml_is_explained(root):
    lines = [line for line in (root / "config.yaml").read_text().splitlines() if line]
    for above, line in itertools.pairwise(lines):
        is_section = line.endswith(":")
        assert "#" in line or above.lstrip().startswith("#") or is_section, f"no word about: {line}"


def test_every_section_belongs_to_data_or_run(base):
    sections = {key for key, value in base.items() if isinstance(value, dict)}
    assert sections == {*c.DATA_SECTIONS, *c.RUN_SECTIONS, "execution"}


@pytest.mark.parametrize("name", ["blood-300k", "blood-10k", "reference", "blood-h5ad", "regularisation", "scaling"])
def test_presets_are_allowed_and_set_every_key(root, base, schema, name):
    preset = yaml.safe_load((root / f"presets/{name}.yaml").read_text())
    assert c.check(preset, schema) == preset
    preset.pop("sweep", None)
    assert c.flatten(preset).keys() == c.flatten(base).keys()
    assert (preset["dataset"], preset["run"]) != (base["dataset"], base["run"])


def test_text_becomes_what_the_schema_wants(base, schema):
    given_as_text = {
        "hvg": {"n_top": "600", "span": "0.3"},
        "normalize": {"log1p": "false"},
        "census": {"max_cells": "null", "uri": "s3://census", "test_datasets": ["7"]},
        "train": {"lr": "1e-4"},
        "run": 2,
        "execution": {"precision": 32},
    }
    got = c.flatten(c.check(merged(base, **given_as_text), schema))
    want = {
        "hvg.n_top": 600, "hvg.span": 0.3, "normalize.log1p": False, "census.max_cells": None, "run": "2",
        "census.uri": "s3://census", "census.test_datasets": ["7"], "train.lr": 1e-4, "execution.precision": "32",
    }  # fmt: skip
    assert {key: got[key] for key in want} == want


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hvg.n_top": "many"}, "hvg.n_top: 'many' is not allowed; allowed: integer, at least 2, at most 65534"),
        ({"hvg.n_top": 0}, "hvg.n_top: 0 is not allowed; allowed: integer, at least 2"),
        ({"hvg.ntop": 5}, "hvg.ntop is no key of the config; did you mean hvg.n_top?"),
        ({"hvg.flavor": "seurat_v4"}, "allowed: one of seurat_v3, seurat_v3_paper, seurat, cell_ranger"),
        ({"mask.ratios": [0.5, 1.0]}, "mask.ratios.item 2: 1.0 is not allowed; allowed: number, over 0, below 1"),
        ({"mask.ratios": []}, "mask.ratios: [] is not allowed; allowed: list like [a, b], not empty"),
        ({"train.lr": "fast"}, "train.lr: 'fast' is not allowed; allowed: number, over 0"),
        ({"census.version": "stable"}, "census: exactly one of version, uri and h5ad"),
        ({"census.uri": None}, "exactly one of version, uri and h5ad must be set and the others null; set: none"),
        ({"model.n_heads": 5}, "model.d_model: 32 is no multiple of model.n_heads (5)"),
        ({"run": "../x"}, "run: '../x' is not allowed; allowed: string, letters, digits"),
        ({"run": "shards"}, "may not be called shards"),
        ({"surprise": 1}, "surprise is no key of the config"),
        ({"census.min_cells_per_sample": 40_000}, "census.min_cells_per_sample is over"),
    ],
)
def test_bad_settings_say_key_value_and_what_is_allowed(base, schema, change, said):
    with pytest.raises(InputError) as error:
        c.check(merged(base, **change), schema)
    assert said in str(error.value) and len(str(error.value).splitlines()) <= 4


def test_a_missing_key_is_named(base, schema):
    del base["hvg"]["span"]
    with pytest.raises(InputError, match=r"hvg\.span is missing"):
        c.check(base, schema)


leaves = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.integers(), max_size=3)
)


@settings(max_examples=200)
@given(st.data())
def test_no_config_breaks_the_check(base_and_schema, data):
    base, schema = base_and_schema
    keys = data.draw(st.lists(st.sampled_from(sorted(c.flatten(base))), min_size=1, max_size=3))
    changed = {**c.flatten(base), **{key: data.draw(leaves) for key in keys}}
    try:
        checked = c.check(c.nest(changed), schema)
    except InputError as error:
        assert len(str(error).splitlines()) <= 7
    else:
        assert c.flatten(checked).keys() == c.flatten(base).keys()


@pytest.fixture(scope="module")
def base_and_schema(root, schema):
    return yaml.safe_load((root / "config.yaml").read_text()), schema


@given(st.dictionaries(st.sampled_from(["a", "b.c", "b.d", "e.f.g"]), st.integers()))
def test_flatten_and_nest(flat):
    assert c.flatten(c.nest(flat)) == flat


def test_options_quote_what_a_shell_would_read():
    got = c.options({"census.filter": "a == 'b' and $(rm)", "x.y_z": None, "n.l": [0.5, "é b"], "b": True},
                    ["census.filter", "x.y_z", "n.l", "b"])  # fmt: skip
    assert shlex.split(got) == ["--census-filter", "a == 'b' and $(rm)", "--n-l", "0.5", "é b", "--b", "true"]
