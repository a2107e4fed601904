import numpy as np

from censusformer.evaluation.plane import umap


def test_groups_stay_apart_and_the_picture_is_the_same_twice():
    rng = np.random.default_rng(0)
    group = np.arange(90) % 2
    x = (rng.normal(size=(90, 8)) + 20 * group[:, None]).astype(np.float32)
    y = umap(x)
    assert y.shape == (90, 2) and y.dtype == np.float32
    distance = np.linalg.norm(y[:, None] - y[None], axis=2) + 1e9 * np.eye(90)
    assert (group[distance.argmin(1)] == group).all()
    assert np.array_equal(y, umap(x))
