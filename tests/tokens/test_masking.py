import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from censusformer.hashing import draw as hash_of
from censusformer.hashing import words
from censusformer.tokens.cells import Cells, concat, sequences
from censusformer.tokens.masking import (
    evaluation_mask,
    mask_tokens,
    n_masked,
    training_mask,
    training_mask_with_cls,
    training_ratios,
)

RATIOS = (0.25, 0.5, 0.75)
WORDS = words(f"ENSG{i:011d}" for i in range(200))
LENGTHS = st.lists(st.integers(2, 60), min_size=1, max_size=20)


def pairs(cells, mask):
    """The masked (cell, gene) pairs."""
    return set(zip(np.repeat(cells.cell, cells.lengths)[mask].tolist(), cells.genes[mask].tolist(), strict=True))


def shuffled_genes(cells, seed):
    """The same cells with the genes of each in another order."""
    drawn = np.random.default_rng(seed).random(len(cells.genes))
    order = np.lexsort((drawn, np.repeat(range(len(cells)), cells.lengths)))
    labels = cells.sample, cells.dataset_id, cells.cell_type
    return Cells(cells.cell, cells.offsets, cells.genes[order], cells.values[order], cells.tie_var, *labels)


def masks(cells, epoch=1, seed=3, draw="cell"):
    yield training_mask(cells, WORDS, RATIOS, draw, seed=seed, epoch=epoch)[0]
    yield from (evaluation_mask(cells, WORDS, ratio) for ratio in RATIOS)


@given(st.integers(2, 2000), st.sampled_from([0.01, 0.15, 0.25, 0.5, 0.75, 0.99]))
def test_n_masked_is_the_formula(n, ratio):
    assert n_masked(n, ratio) == min(n - 1, max(1, math.floor(ratio * n + 0.5)))


@settings(max_examples=40, deadline=None)
@given(LENGTHS, st.sampled_from(["cell", "run"]), st.integers(0, 2**63))
def test_counts_are_exact(make_cells, lengths, draw, seed):
    cells = make_cells(lengths)
    mask, ratios = training_mask(cells, WORDS, RATIOS, draw, seed=seed, epoch=2)
    assert np.add.reduceat(mask, cells.offsets[:-1], dtype=int).tolist() == n_masked(cells.lengths, ratios).tolist()
    for ratio in RATIOS:
        mask = evaluation_mask(cells, WORDS, ratio)
        assert np.add.reduceat(mask, cells.offsets[:-1], dtype=int).tolist() == n_masked(cells.lengths, ratio).tolist()


@settings(max_examples=40, deadline=None)
@given(LENGTHS, st.data())
def test_smallest_scores_are_masked_even_where_upper_bits_agree(lengths, data):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    top = data.draw(st.sampled_from([3, 2**20, 2**64 - 1]))
    scores = np.random.default_rng(0).integers(0, top, offsets[-1], dtype=np.uint64)
    ratios = np.array(data.draw(st.lists(st.sampled_from(RATIOS), min_size=len(lengths), max_size=len(lengths))))
    expected = np.zeros(len(scores), bool)
    for start, end, ratio in zip(offsets[:-1], offsets[1:], ratios, strict=True):
        order = sorted(range(start, end), key=lambda token: (scores[token], token))
        expected[order[: n_masked(end - start, ratio)]] = True
    assert mask_tokens(offsets, scores, ratios).tolist() == expected.tolist()


def test_many_cells_cross_the_blocks_of_the_sort(make_cells):
    cells = make_cells(np.random.default_rng(1).integers(2, 150, 800).tolist())
    rows = np.arange(len(cells))
    parts = [cells.take(part) for part in np.array_split(rows, 37)]
    for whole, *rest in zip(masks(cells), *(masks(part) for part in parts), strict=True):
        assert whole.tolist() == np.concatenate(rest).tolist()


@settings(max_examples=20, deadline=None)
@given(LENGTHS, st.integers(0, 99))
def test_neither_the_order_of_genes_nor_of_cells_matters(make_cells, lengths, seed):
    cells = make_cells(lengths)
    other = shuffled_genes(cells.take(np.random.default_rng(seed).permutation(len(cells))), seed)
    for one, two in zip(masks(cells), masks(other), strict=True):
        assert pairs(cells, one) == pairs(other, two)


def test_more_genes_in_the_vocabulary_change_nothing(make_cells):
    cells = make_cells([40] * 5)
    later = Cells(cells.cell, cells.offsets, cells.genes + 3, *[getattr(cells, k) for k in list(cells.__dict__)[3:]])
    longer = np.concatenate([words(["x", "y", "z"]), WORDS])
    assert evaluation_mask(cells, WORDS, 0.5).tolist() == evaluation_mask(later, longer, 0.5).tolist()


def test_training_masks_change_with_seed_and_epoch_and_evaluation_masks_with_neither(make_cells):
    cells = make_cells([60] * 30)
    draws = [(0, 0), (0, 1), (1, 0), (0, 0)]
    first = [training_mask(cells, WORDS, (0.5,), "cell", seed=seed, epoch=epoch)[0] for seed, epoch in draws]
    agree = [np.mean(first[0] == mask) for mask in first]
    assert agree[3] == 1
    assert all(0.4 < share < 0.6 for share in agree[1:3])
    half, quarter = evaluation_mask(cells, WORDS, 0.5), evaluation_mask(cells, WORDS, 0.25)
    assert 0.4 < np.mean(half == first[0]) < 0.6
    assert abs(np.mean(half[quarter]) - 0.5) < 0.1


def test_every_gene_is_masked_equally_often(make_cells):
    cells = make_cells([100] * 600)
    mask = evaluation_mask(cells, WORDS, 0.5)
    share = np.bincount(cells.genes[mask], minlength=200) / np.bincount(cells.genes, minlength=200)
    # 300 draws a gene: a standard deviation of about 0.029
    assert abs(share.mean() - 0.5) < 0.002
    assert abs(share - 0.5).max() < 5 * 0.029


def test_ratios_are_drawn_evenly_and_anew_each_epoch():
    cell = hash_of(np.arange(9000))
    first, second = (training_ratios(cell, RATIOS, "cell", 0, epoch) for epoch in (0, 1))
    for ratio in RATIOS:
        assert abs(np.mean(first == ratio) - 1 / 3) < 0.025
    assert abs(np.mean(first == second) - 1 / 3) < 0.025


def test_a_run_draws_one_ratio():
    cell = hash_of(np.arange(5))
    per_seed = [{*training_ratios(cell, RATIOS, "run", s, e)} for s in range(20) for e in range(2)]
    assert all(len(ratios) == 1 for ratios in per_seed)
    assert per_seed[::2] == per_seed[1::2]
    assert set.union(*per_seed) == set(RATIOS)


def test_a_cell_of_one_gene_is_refused(make_cells):
    with pytest.raises(ValueError, match="fewer than two"):
        evaluation_mask(make_cells([5, 1]), WORDS, 0.5)


def test_no_cells_give_no_mask(make_cells):
    none = make_cells([4]).take(np.empty(0, np.int64))
    assert evaluation_mask(none, WORDS, 0.5).shape == (0,)
    assert concat([none, make_cells([4])]).offsets.tolist() == [0, 4]


@settings(max_examples=40, deadline=None)
@given(LENGTHS, st.sampled_from(["cell", "run"]), st.integers(0, 2**63))
def test_the_mask_is_the_same_with_cls_in_its_place(make_cells, lengths, draw, seed):
    cells = make_cells(lengths)
    rows = np.random.default_rng(0).permutation(len(cells))
    how = {"ratios": RATIOS, "draw": draw, "seed": seed, "epoch": 4}
    mask, _ = training_mask(cells.take(rows), WORDS, **how)
    packed = sequences(cells, rows, cls=len(WORDS))
    positions, counts = training_mask_with_cls(packed, WORDS, **how)
    wanted = np.flatnonzero(mask) + np.repeat(np.arange(len(rows)), cells.take(rows).lengths)[mask] + 1
    np.testing.assert_array_equal(positions, wanted)
    assert counts.sum() == mask.sum()
    np.testing.assert_array_equal(packed.genes[packed.offsets[:-1]], np.full(len(rows), len(WORDS)))
    assert not set(positions) & set(packed.offsets[:-1])
