"""What the tests of expression share."""

import numpy as np
import pytest
import scipy.sparse as sp


@pytest.fixture(name="rng")
def _rng():
    return np.random.default_rng(20)


@pytest.fixture(scope="session")
def counts():
    """Counts as a library would give them: 300 cells x 900 genes, means over four orders, overdispersed, CSR."""
    rng = np.random.default_rng(4)
    mean = 10 ** rng.uniform(-2.5, 1.2, 900)
    depth = rng.lognormal(0, 0.5, 300)
    shape = rng.uniform(0.3, 5, 900)
    return sp.csr_matrix(rng.poisson(depth[:, None] * mean * rng.gamma(shape, 1 / shape, (300, 900))))


@pytest.fixture(scope="session")
def csr_of():
    """A matrix as kernels take it: indptr, indices, data."""

    def convert(matrix, *, data=np.uint32, indices=np.int32):
        matrix = sp.csr_matrix(matrix)
        return matrix.indptr.astype(np.int64), matrix.indices.astype(indices), matrix.data.astype(data)

    return convert
