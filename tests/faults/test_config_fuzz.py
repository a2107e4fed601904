"""Any config is taken, or refused in words: no traceback of a config reaches a user (1,000 cases in `make faults`)."""

import copy
import os

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from censusformer.config import flatten, options
from censusformer.errors import InputError
from censusformer.sweeps import read_sweep

CASES = int(os.environ.get("FUZZ_CASES", "100"))

TEXTS = st.one_of(
    st.sampled_from(
        ["", "null", "true", "nan", "inf", "-1", "1e-4", "1_000", "0x10", "[1", "{", "../../x", "a b", "'"]
    ),
    st.text(max_size=12),
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS, st.just(10**400), st.dates())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS | st.integers(), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def base(root):
    return yaml.safe_load((root / "config.yaml").read_text())


def paths(tree, above=()):
    """Every key of a config, sections too."""
    for key, value in tree.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from paths(value, (*above, key))


def near(value):
    """Values like this one, and unlike it."""
    close = [VALUES]
    if isinstance(value, bool):
        close.append(st.booleans())
    elif isinstance(value, int | float):
        close += [st.integers(-2, 70000), st.floats(-1, 2), st.integers(1, 50).map(str)]
    elif isinstance(value, str):
        close += [st.text(max_size=5).map(lambda text: value + text)]
    elif isinstance(value, list):
        close.append(st.lists(st.floats(0, 1) | TEXTS, max_size=4))
    return st.one_of(close)


@st.composite
def configs(draw, base):
    """The config of the demo with some keys set, removed or added, and at times a sweep."""
    config, known = copy.deepcopy(base), list(paths(base))
    for path in draw(st.lists(st.sampled_from(known), max_size=4)):
        *above, key = path
        section = config
        for name in above:
            section = section.get(name) if isinstance(section, dict) else None
        if not isinstance(section, dict):
            continue
        how = draw(st.sampled_from(["set", "set", "set", "remove", "add"]))
        if how == "remove":
            section.pop(key, None)
        else:
            section[key if how == "set" else draw(TEXTS)] = draw(near(section.get(key)))
    if draw(st.integers(0, 3)) == 0:
        dotted = st.sampled_from([".".join(path) for path in known]) | TEXTS
        nested = st.sampled_from([path[0] for path in known])
        entry = st.dictionaries(dotted, VALUES, max_size=3) | st.dictionaries(nested, VALUES, max_size=2)
        config["sweep"] = draw(st.lists(entry | VALUES, max_size=3) | VALUES)
    return config


@given(data=st.data())
@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_a_config_is_taken_or_refused_in_words(schema, base, data):
    config = data.draw(configs(base))
    try:
        runs = read_sweep(config, schema).runs
    except InputError as error:
        assert str(error).strip() and len(str(error)) < 20_000
        return
    assert runs
    for (dataset, run), chosen in runs.items():
        for name in (dataset, run):
            assert name and "/" not in name and not name.startswith((".", "-")) and name.isprintable()
        assert flatten(chosen) == chosen
        assert "\n" not in options({k: v for k, v in chosen.items() if not isinstance(v, str)}, [
            k for k, v in chosen.items() if not isinstance(v, str)
        ])  # fmt: skip
