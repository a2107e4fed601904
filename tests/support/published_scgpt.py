"""`TransformerModel` as published in scgpt 0.2.4, from its own file, without the rest of the package."""

import importlib
import sys
import types
import warnings
from pathlib import Path

import pytest

FOLDER = Path(sys.prefix) / "scgpt" / "scgpt" / "model"  # `make` installs it there, without its dependencies


def transformer_model():
    """The class; the test skips where the package was not installed."""
    if not FOLDER.is_dir():
        pytest.skip(f"{FOLDER} is absent: pip install --no-deps --target {FOLDER.parents[1]} scgpt==0.2.4")
    if "published_scgpt_model" not in sys.modules:
        package = types.ModuleType("published_scgpt_model")
        package.__path__ = [str(FOLDER)]
        sys.modules["published_scgpt_model"] = package
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "flash_attn is not installed")
        return importlib.import_module("published_scgpt_model.model").TransformerModel
