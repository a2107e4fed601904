"""Cells with one gene taken out or raised."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from small_shards import cells_of, expressed

from censusformer.tokens.edit import raised, shows, without


def lists(cells):
    """{gene: bin} of each cell."""
    parts = (np.split(x, cells.offsets[1:-1]) for x in (cells.genes, cells.values))
    return [dict(zip(genes.tolist(), values.tolist(), strict=True)) for genes, values in zip(*parts, strict=True)]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 50), st.integers(0, 79))
def test_one_gene_changes_and_nothing_else(seed, gene):
    cells = expressed(12, seed=seed)
    before = lists(cells)
    assert shows(cells, gene).tolist() == [gene in cell for cell in before]
    gone, up = without(cells, gene), raised(cells, gene, 50)
    assert lists(gone) == [{g: v for g, v in cell.items() if g != gene} for cell in before]
    assert lists(up) == [cell | {gene: 50} for cell in before]
    for changed in (gone, up):
        assert (changed.genes.dtype, changed.values.dtype) == (cells.genes.dtype, cells.values.dtype)
        np.testing.assert_array_equal(changed.cell, cells.cell)
    for i in range(12):
        assert (np.diff(up.genes[up.offsets[i] : up.offsets[i + 1]].astype(int)) > 0).all()


def test_cells_without_genes():
    cells = cells_of([[], [3]], [[], [9]])
    assert lists(without(cells, 3)) == [{}, {}]
    assert lists(raised(cells, 5, 50)) == [{5: 50}, {3: 9, 5: 50}]
    assert shows(cells, 3).tolist() == [False, True]
