"""What several tests share."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
BLOOD = ROOT.parent / "shared" / "blood"


@pytest.fixture(scope="session")
def root():
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def schema(root):
    """What a config may hold."""
    return yaml.safe_load((root / "workflow/schemas/config.schema.yaml").read_text())


@pytest.fixture(scope="session")
def blood():
    """The folder of real human blood; the test skips where it is absent (it is no part of the product)."""
    if not BLOOD.is_dir():
        pytest.skip(f"{BLOOD} is absent: real blood is not part of the repository")
    return BLOOD


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items):
    """For `pytest -n 2 --dist loadgroup`: a file, or all tests of the finished demo, on one worker; long ones first."""
    for item in items:
        group = "small_demo" if "small_demo" in item.fixturenames else item.module.__name__
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: "tests/workflow" not in item.nodeid)
