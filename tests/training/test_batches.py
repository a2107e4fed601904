"""Batches: packing, order of an epoch, shares of ranks, the background thread."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_shards import cells_of, expressed, vocabulary_of

from censusformer.tokens.masking import n_masked, training_mask
from censusformer.training.batches import TrainingBatches, ahead, batches_by_tokens, pack
from censusformer.training.settings import MaskSettings
from censusformer.training.window import epoch_order, fixed_cells

VOCABULARY = vocabulary_of(80)


def batches_of(cells, **changes):
    options = {"mask": MaskSettings(), "batch_size": 7, "seed": 3, **changes}
    return TrainingBatches(cells, VOCABULARY, **options)


def content(batch):
    """What a batch says, as plain lists."""
    genes, values, cu_seqlens, longest = batch.packed
    tensors = genes, values, cu_seqlens, batch.positions, batch.cells, batch.targets
    return [x.tolist() for x in tensors], longest, batch.n_masked, batch.n_cells


def test_packing_by_hand():
    cells = cells_of([[5, 7], [2, 3, 9]], [[10, 20], [30, 40, 50]])
    batch = pack(cells, np.array([0, 1, 1, 0, 1], bool), cls=80).batch(0, 2)
    assert content(batch) == (
        [[80, 5, 7, 80, 2, 3, 9], [0, 10, -1, 0, -1, 40, -1], [0, 3, 7], [2, 4, 6], [0, 1, 1], [20, 30, 50]],
        4,
        3,
        2,
    )


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(2, 20), min_size=1, max_size=9), data=st.data())
def test_a_slice_of_a_block_is_the_batch_of_these_cells(lengths, data):
    rng = np.random.default_rng(sum(lengths))
    cells = cells_of([rng.permutation(80)[:n] for n in lengths], [rng.integers(1, 51, n) for n in lengths])
    mask = rng.random(len(cells.genes)) < 0.5
    start = data.draw(st.integers(0, len(lengths) - 1))
    stop = data.draw(st.integers(start + 1, len(lengths)))
    alone = cells.take(np.arange(start, stop))
    part = mask[cells.offsets[start] : cells.offsets[stop]]
    assert content(pack(cells, mask, 80).batch(start, stop)) == content(pack(alone, part, 80).batch(0, stop - start))


def test_an_epoch_holds_each_cell_once_in_an_order_of_its_own():
    cells = expressed(40)
    orders = [epoch_order(cells.cell, 3, epoch) for epoch in range(3)]
    assert all(sorted(order) == list(range(40)) for order in orders)
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(epoch_order(cells.cell, 4, 0), orders[0])


def test_order_and_masks_do_not_depend_on_the_order_of_shards():
    cells = expressed(40)
    turned = cells.take(np.random.default_rng(0).permutation(40))
    for one, two in zip(batches_of(cells).epoch(1), batches_of(turned).epoch(1), strict=True):
        assert content(one) == content(two)


def test_order_tells_nothing_about_the_mask_ratio():
    cells = expressed(600, mean=20)
    first = cells.take(epoch_order(cells.cell, 0, 0)[:300])
    mask, ratios = training_mask(first, VOCABULARY.gene_words, (0.25, 0.75), "cell", seed=0, epoch=0)
    assert 0.4 < np.mean(ratios == 0.75) < 0.6
    assert mask.sum() == n_masked(first.lengths, ratios).sum()


def test_an_epoch_can_be_entered_anywhere(monkeypatch):
    monkeypatch.setattr("censusformer.training.batches._BLOCK_TOKENS", 500)  # blocks of two batches
    batches = batches_of(expressed(40))
    whole = [content(batch) for batch in batches.epoch(2)]
    assert len(whole) == len(batches) == 6
    for first in range(6):
        assert [content(batch) for batch in batches.epoch(2, first)] == whole[first:]


def test_block_size_changes_nothing(monkeypatch):
    batches = batches_of(expressed(40))
    whole = [content(batch) for batch in batches.epoch(0)]
    monkeypatch.setattr("censusformer.training.batches._BLOCK_TOKENS", 1)
    assert [content(batch) for batch in batches.epoch(0)] == whole


def test_a_batch_larger_than_the_set_is_one_batch():
    (batch,) = batches_of(expressed(5), batch_size=100).epoch(0)
    assert batch.n_cells == 5


@pytest.mark.parametrize("world", [2, 3])
def test_shares_of_ranks_make_up_the_global_batch(world):
    cells = expressed(15)  # the last batch of 7 has one cell: some rank has none of it
    whole = list(batches_of(cells).epoch(0))
    shares = [list(batches_of(cells, rank=rank, world=world).epoch(0)) for rank in range(world)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert {(part.n_masked, part.n_cells) for part in parts} == {(batch.n_masked, batch.n_cells)}
        assert sum(len(part.targets) for part in parts) == batch.n_masked
        targets = sorted(value for part in parts for value in part.targets.tolist())
        assert targets == sorted(batch.targets.tolist())


@settings(max_examples=20, deadline=None)
@given(budget=st.integers(1, 400))
def test_batches_by_tokens_keep_to_the_budget(budget):
    cells = expressed(20)
    mask = np.ones(len(cells.genes), bool)
    batches = list(batches_by_tokens(cells, mask, 80, budget))
    assert sum(batch.n_cells for batch in batches) == 20
    assert all(batch.n_cells == 1 or batch.n_masked <= budget for batch in batches)
    targets = np.concatenate([batch.targets.numpy() for batch in batches])
    np.testing.assert_array_equal(targets, cells.values)


@settings(max_examples=20, deadline=None)
@given(budget=st.integers(1, 300))
def test_parts_of_a_batch_make_it_up(budget):
    whole = next(batches_of(expressed(9)).epoch(0))
    parts = whole.parts(budget)
    offset = cell = 0
    for part in parts:
        genes, values, cu_seqlens, longest = part.packed
        assert len(genes) <= budget or len(cu_seqlens) == 2
        assert longest == cu_seqlens.diff().max()
        assert (part.n_masked, part.n_cells) == (whole.n_masked, whole.n_cells)
        asked = slice(*np.searchsorted(whole.positions.numpy(), [offset, offset + len(genes)]))
        assert (part.positions + offset).tolist() == whole.positions[asked].tolist()
        assert (part.cells + cell).tolist() == whole.cells[asked].tolist()
        assert part.targets.tolist() == whole.targets[asked].tolist()
        assert values.tolist() == whole.packed.values[offset : offset + len(genes)].tolist()
        offset, cell = offset + len(genes), cell + len(cu_seqlens) - 1
    assert (offset, cell) == (len(whole.packed.genes), 7)
    assert sum(len(part.targets) for part in parts) == whole.n_masked
    assert whole.parts(None) == [whole]


def test_fixed_cells_stay_when_others_come_and_go():
    cells = expressed(40)
    chosen = set(cells.cell[fixed_cells(cells.cell, 10)].tolist())
    fewer = cells.cell[:30]
    again = set(fewer[fixed_cells(fewer, 10)].tolist())
    assert len(chosen) == 10
    assert chosen & set(fewer.tolist()) <= again


def test_the_background_thread_keeps_order_and_passes_errors_on():
    assert list(ahead(iter(range(1, 20)))) == list(range(1, 20))

    def broken():
        yield 1
        raise OSError("disk")

    items = ahead(broken())
    assert next(items) == 1
    with pytest.raises(OSError, match="disk"):
        next(items)


def test_the_background_thread_ends_when_its_reader_does():
    drawn = []
    items = ahead((drawn.append(i) or i for i in range(1, 1000)), depth=2)
    next(items)
    items.close()
    assert len(drawn) < 10
