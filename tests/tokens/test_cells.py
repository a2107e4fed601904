import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from censusformer.tokens.cells import Categories, concat

LENGTHS = st.lists(st.integers(0, 30), min_size=1, max_size=12)


def content(cells):
    """What each cell holds, by its key, written the slow way."""
    labels = [column.labels() for column in (cells.sample, cells.dataset_id, cells.cell_type)]
    tokens = [
        (cells.genes[a:b].tolist(), cells.values[a:b].tolist())
        for a, b in zip(cells.offsets[:-1], cells.offsets[1:], strict=True)
    ]
    return [(*row, *token) for *row, token in zip(cells.cell, cells.tie_var, *labels, tokens, strict=True)]


@settings(max_examples=30, deadline=None)
@given(LENGTHS, st.data())
def test_take_gives_the_rows_asked_for(make_cells, lengths, data):
    cells = make_cells(lengths)
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=20))
    whole = content(cells)
    assert content(cells.take(np.array(rows, np.int64))) == [whole[row] for row in rows]
    assert cells.tokens_of(np.array(rows, np.int64)).tolist() == [
        token for row in rows for token in range(cells.offsets[row], cells.offsets[row + 1])
    ]


@settings(max_examples=30, deadline=None)
@given(LENGTHS, st.integers(0, 12), st.integers(0, 12))
def test_concat_undoes_cutting(make_cells, lengths, first, second):
    cells = make_cells(lengths)
    cuts = np.array_split(np.arange(len(cells)), np.unique([min(first, len(cells)), min(second, len(cells))]))
    joined = concat([cells.take(rows) for rows in cuts])
    assert content(joined) == content(cells)
    assert joined.genes.dtype == cells.genes.dtype
    assert joined.offsets.dtype == np.int64


def test_concat_matches_labels_by_name(make_cells):
    one, two = make_cells([3, 4], seed=1), make_cells([2, 5, 6], seed=2)
    other = Categories(np.array([0, 0, 1], np.int32), ("z", "a"))
    two = type(two)(two.cell, two.offsets, two.genes, two.values, two.tie_var, other, other, other)
    assert concat([one, two]).sample.labels().tolist() == [*one.sample.labels(), "z", "z", "a"]


def test_take_accepts_a_boolean_mask(make_cells):
    cells = make_cells([3, 4, 5])
    assert content(cells.take(np.array([True, False, True]))) == content(cells.take(np.array([0, 2])))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text("abc", max_size=2), max_size=10))
def test_tidy_keeps_labels(labels):
    column = Categories.of(labels)
    mixed = Categories(column.codes + 1, ("unused", *column.names))
    assert mixed.tidy().labels().tolist() == labels
    assert mixed.tidy().names == tuple(sorted(set(labels)))
    assert mixed.tidy().codes.dtype == np.int32
