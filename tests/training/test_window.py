"""A window over shards: each cell once, mixed, entered anywhere, in its memory; training on it repeats and resumes."""

import json
import os
import signal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_shards import MAX_LENGTH, N_BINS, expressed, vocabulary_of, write_data

from censusformer.errors import InputError
from censusformer.tokens.shards import ShardMeta, file_sha256, read_manifest, write_shard
from censusformer.training.batches import TrainingBatches, blocks_of
from censusformer.training.data import read_data
from censusformer.training.session import start_fabric
from censusformer.training.settings import MaskSettings
from censusformer.training.trainer import Trainer
from censusformer.training.window import Window, decoded_bytes, open_shards

ROWS = [40, 25, 40, 0, 31, 40, 7, 40, 33]
VOCABULARY = vocabulary_of(80)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A data set of nine training shards, one of them empty."""
    cells = expressed(sum(ROWS) + 20)
    valid = cells.take(np.arange(20))
    folder = write_data(tmp_path_factory.mktemp("many"), {"train": valid, "valid": valid, "test": valid}, VOCABULARY)
    content, files, start = json.loads((folder / "shards.json").read_text()), [], 20
    for i, n in enumerate(ROWS):
        part = cells.take(np.arange(start, start + n))
        path, start = folder / f"train-{i}.parquet", start + n
        write_shard(path, part, ShardMeta(N_BINS, MAX_LENGTH, VOCABULARY.sha256))
        files.append({"path": path.name, "rows": n, "tokens": part.n_tokens, "sha256": file_sha256(path)})
    content["splits"]["train"]["files"] = files
    (folder / "shards.json").write_text(json.dumps(content))
    return folder / "shards.json"


def window_of(manifest, n_open):
    files = [file for file in read_manifest(manifest)["splits"]["train"]["files"] if file["rows"]]
    return Window(manifest, tuple(files), VOCABULARY, n_open)


def small_memory(manifest, n_open):
    """GB in which that many shards can be open."""
    files = read_manifest(manifest)["splits"]["train"]["files"]
    return (n_open + 4.5) * max(decoded_bytes(file, 80, N_BINS) for file in files) / 1e9


def cells_of(pieces):
    return np.concatenate([piece.cell for piece in pieces])


@pytest.mark.parametrize("n_open", [1, 3, 8])
def test_an_epoch_holds_each_cell_once_in_an_order_of_its_own(many, n_open):
    window = window_of(many, n_open)
    one, two = (cells_of(window.pieces(0, epoch)) for epoch in (0, 1))
    assert len(one) == len(window) == sum(ROWS)
    assert sorted(one) == sorted(two) == sorted(read_data(many, VOCABULARY).train.cell)
    assert not np.array_equal(one, two)
    np.testing.assert_array_equal(one, cells_of(window.pieces(0, 0)))


@settings(max_examples=20, deadline=None)
@given(first=st.integers(0, sum(ROWS) - 1), n_open=st.integers(1, 8))
def test_an_epoch_can_be_entered_at_any_cell(many, first, n_open):
    window = window_of(many, n_open)
    np.testing.assert_array_equal(cells_of(window.pieces(2, 1, first)), cells_of(window.pieces(2, 1))[first:])


def test_rounds_mix_the_open_shards(many):
    """Neighbours are of one shard no more often than chance has it: 1 in 4 (where shards are equal), not 3 in 4."""
    window = window_of(many, 4)
    shard = {key: i for i, file in enumerate(window.files) for key in window._open(i, 0, 0).cell.tolist()}
    order = [shard[key] for key in cells_of(window.pieces(0, 0)).tolist()]
    same = np.mean(np.diff(order) == 0)
    assert same < 0.4


def test_no_more_shards_are_open_than_allowed_and_each_is_read_about_once(many, monkeypatch):
    opened = []
    read = Window._open
    monkeypatch.setattr(Window, "_open", lambda self, *where: opened.append(where[0]) or read(self, *where))
    list(window_of(many, 3).pieces(0, 0))
    assert len(opened) == 8 + 2  # those that the circle ends with are open when it begins


def test_batches_of_ranks_make_up_those_of_one(many):
    how = {"mask": MaskSettings(), "batch_size": 16, "seed": 1}
    window = window_of(many, 3)
    whole = list(TrainingBatches(window, VOCABULARY, **how).epoch(0))
    assert [batch.n_cells for batch in whole] == [16] * 16
    shares = [list(TrainingBatches(window, VOCABULARY, **how, rank=rank, world=2).epoch(0)) for rank in range(2)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert {part.n_masked for part in parts} == {batch.n_masked}
        assert sorted(x for part in parts for x in part.targets.tolist()) == sorted(batch.targets.tolist())


@settings(max_examples=20, deadline=None)
@given(size=st.integers(1, 70))
def test_pieces_become_blocks_of_one_size(many, size):
    window = window_of(many, 3)
    blocks = list(blocks_of(window.pieces(0, 0), size))
    assert [len(block) for block in blocks[:-1]] == [size] * (len(blocks) - 1)
    np.testing.assert_array_equal(cells_of(blocks), cells_of(window.pieces(0, 0)))


def test_a_window_is_taken_where_memory_is_small_and_gives_the_same_means(many):
    memory = read_data(many, VOCABULARY)
    window = read_data(many, VOCABULARY, small_memory(many, 3))
    assert isinstance(window.train, Window)
    assert window.train.n_open == 3
    assert window.train.n_tokens == memory.train.n_tokens
    np.testing.assert_array_equal(window.mean_bins, memory.mean_bins)
    np.testing.assert_array_equal(window.fixed.cell, memory.fixed.cell)
    np.testing.assert_array_equal(window.fixed.genes, memory.fixed.genes)
    assert window.sha256 != memory.sha256


def test_memory_that_is_too_small_is_refused(many):
    with pytest.raises(InputError, match=r"execution\.memory 1e-06 GB"):
        read_data(many, VOCABULARY, 1e-6)
    with pytest.raises(InputError, match=r"execution\.memory"):
        open_shards(read_manifest(many)["splits"]["train"]["files"], 80, N_BINS, small_memory(many, 0))


def test_a_stopped_run_goes_on_exactly_inside_the_epoch(many, request, tmp_path):
    data = read_data(many, VOCABULARY, small_memory(many, 3))
    how = request.getfixturevalue("settings")()  # the name is hypothesis' here

    class Stopping(Trainer):
        def _step(self, batch):
            super()._step(batch)
            if self.state.step == 21:  # an epoch has 16
                os.kill(os.getpid(), signal.SIGTERM)

    def train(work, kind=Trainer):
        work.mkdir(exist_ok=True)
        trainer = kind(start_fabric(how.execution), how, data, work)
        trainer.fit()
        return trainer.module.state_dict()

    whole = train(tmp_path / "whole")
    with pytest.raises(SystemExit):
        train(tmp_path / "cut", Stopping)
    again = train(tmp_path / "cut")
    assert all(np.array_equal(whole[name], again[name]) for name in whole)
