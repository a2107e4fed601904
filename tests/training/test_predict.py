"""Predictions at masked positions, and files of models."""

import numpy as np
import pytest
import torch
from small_shards import expressed, vocabulary_of

from censusformer.errors import InputError
from censusformer.model import ModelConfig, Pretrainer
from censusformer.tokens.masking import evaluation_mask
from censusformer.training import checkpoints, load_model, predict_masked

VOCABULARY = vocabulary_of(80)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Pretrainer(ModelConfig(80, 2, 16, 4, 16, 0.5))


def mask_of(cells):
    return evaluation_mask(cells, VOCABULARY.gene_words, 0.5)


def test_batches_other_cells_and_dropout_change_nothing(model):
    cells = expressed(12)
    mask = mask_of(cells)
    together = predict_masked(model, cells, mask)
    assert model.training  # as before
    for tokens in (1, 100):
        for one, two in zip(together, predict_masked(model, cells, mask, batch_tokens=tokens), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)
    alone = cells.take(np.array([3]))
    before = mask[: cells.offsets[3]].sum()
    for one, two in zip(together, predict_masked(model, alone, mask_of(alone)), strict=True):
        np.testing.assert_allclose(one[before : before + len(two)], two, rtol=1e-4, atol=1e-4)


def test_hidden_values_do_not_matter(model):
    """The bins at masked positions can be anything: the model never sees them."""
    cells = expressed(5)
    mask = mask_of(cells)
    other = expressed(5)
    other.values[mask] = 1
    for one, two in zip(predict_masked(model, cells, mask), predict_masked(model, other, mask), strict=True):
        np.testing.assert_array_equal(one, two)


def test_visible_values_do_matter(model):
    cells, other = expressed(5), expressed(5)
    mask = mask_of(cells)
    other.values[~mask] = 1
    for one, two in zip(predict_masked(model, cells, mask), predict_masked(model, other, mask), strict=True):
        assert not np.allclose(one, two)


def test_no_cells_no_predictions(model):
    cells = expressed(3).take(np.array([], np.int64))
    assert [len(x) for x in predict_masked(model, cells, np.empty(0, bool))] == [0, 0]


def test_files_round_trip_and_are_reproducible(model, tmp_path):
    content = {"state_dict": model.state_dict(), "model": model.config.to_dict(), "epoch": 3}
    for name in ("a.pt", "other.pt"):
        checkpoints.save(tmp_path / name, "model", content)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "other.pt").read_bytes()
    loaded, about = load_model(tmp_path / "a.pt")
    assert loaded.config == model.config
    assert about == {"epoch": 3}
    assert not loaded.training
    assert all(torch.equal(p, q) for p, q in zip(loaded.parameters(), model.parameters(), strict=True))


def test_files_that_are_no_model_are_refused(model, tmp_path):
    path = tmp_path / "best_model.pt"
    with pytest.raises(InputError, match="missing"):
        load_model(path)
    path.write_bytes(b"no archive")
    with pytest.raises(InputError, match="damaged"):
        load_model(path)
    checkpoints.save(path, "checkpoint", {})
    with pytest.raises(InputError, match="no model"):
        load_model(path)
    checkpoints.save(path, "model", {"state_dict": model.state_dict()})
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InputError, match="damaged"):
        load_model(path)
