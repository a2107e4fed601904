"""The conda environments hold what `constraints.txt` pins."""

import pytest
import yaml

CONDA_NAMES = {"pytorch": "torch"}


@pytest.fixture(scope="module")
def pins(root):
    lines = (root / "constraints.txt").read_text().splitlines()
    return dict(line.lower().split("==") for line in lines if line and not line.startswith("#"))


def packages(root, name):
    """{PyPI's name: version} of an environment file."""
    listed = yaml.safe_load((root / f"envs/{name}.yaml").read_text())["dependencies"]
    conda = [entry.split("=") for entry in listed if isinstance(entry, str) and entry != "pip"]
    pip = [spec.split("==") for entry in listed if isinstance(entry, dict) for spec in entry["pip"]]
    return {CONDA_NAMES.get(package, package): version for package, version in [*conda, *pip]}


@pytest.mark.parametrize("name", ["census", "prep", "train", "report"])
def test_versions_are_those_of_the_constraints(root, pins, name):
    found = packages(root, name)
    assert found.pop("python") == "3.11"
    assert found == {package: pins[package] for package in found}


def test_training_needs_no_scanpy_and_no_tiledb(root):
    assert not {"scanpy", "tiledbsoma", "anndata", "numba"} & packages(root, "train").keys()
