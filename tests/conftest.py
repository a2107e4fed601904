"""What several tests share."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOOD = ROOT.parent / "shared" / "blood"


@pytest.fixture(scope="session")
def root():
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def blood():
    """The folder of real human blood; the test skips where it is absent (it is no part of the product)."""
    if not BLOOD.is_dir():
        pytest.skip(f"{BLOOD} is absent: real blood is not part of the repository")
    return BLOOD
