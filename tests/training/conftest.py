"""A small data set and settings of a run on it."""

import numpy as np
import pytest
from small_shards import expressed, vocabulary_of, write_data

from censusformer.training.data import Data, read_data
from censusformer.training.settings import ExecutionSettings, MaskSettings, Settings, TrainSettings


@pytest.fixture(scope="session")
def vocabulary():
    return vocabulary_of(80)


@pytest.fixture(scope="session")
def folder(tmp_path_factory, vocabulary):
    """150 training and 20 validation cells on disk."""
    cells = expressed(170)
    splits = {"train": cells.take(np.arange(20, 170)), "valid": cells.take(np.arange(20)), "test": cells.take([])}
    return write_data(tmp_path_factory.mktemp("shards"), splits, vocabulary)


@pytest.fixture(scope="session")
def data(folder, vocabulary) -> Data:
    return read_data(folder / "shards.json", vocabulary)


@pytest.fixture(scope="session")
def settings_of():
    """Settings of a small run; keywords are those of `train` and `execution`."""

    def build(model=None, mask=None, execution=None, **train):
        model = {"n_layers": 1, "d_model": 16, "n_heads": 2, "d_ff": 16, "dropout": 0.1, **(model or {})}
        train = {"epochs": 2, "batch_size": 16, **train}
        execution = {"log_every": 3, **(execution or {})}
        return Settings(model, MaskSettings(**(mask or {})), TrainSettings(**train), ExecutionSettings(**execution))

    return build


@pytest.fixture
def settings(settings_of):
    """The same, for a single test."""
    return settings_of
