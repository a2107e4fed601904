import numpy as np
import pytest

from censusformer.hashing import draw
from censusformer.tokens.cells import Categories, Cells


def make_cells(lengths, n_genes=200, n_bins=51, *, seed=0, gene_dtype=np.uint16, value_dtype=np.uint8):
    """Cells with distinct genes, sorted, and labels in no order."""
    rng = np.random.default_rng(seed)
    n, offsets = len(lengths), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    genes = [np.sort(rng.choice(n_genes, length, replace=False)) for length in lengths]
    labels = [Categories.of(rng.choice(["s:b", "s:a", "t:ö"], n)) for _ in range(3)]
    return Cells(
        cell=draw(seed, np.arange(n, dtype=np.uint64)),
        offsets=offsets,
        genes=np.concatenate([np.empty(0, np.int64), *genes]).astype(gene_dtype),
        values=rng.integers(1, n_bins, offsets[-1]).astype(value_dtype),
        tie_var=rng.random(n).astype(np.float32),
        sample=labels[0],
        dataset_id=labels[1],
        cell_type=labels[2],
    )


@pytest.fixture(name="make_cells", scope="session")
def _make_cells():
    return make_cells
