import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from censusformer.evaluation.integration import (
    BATCH_SCORES,
    LABEL_SCORES,
    import_scib,
    integration_scores,
    nearest_cells,
    silhouette_batch,
)


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    label, batch = rng.integers(0, 3, 240), rng.integers(0, 2, 240)
    x = rng.normal(size=(240, 6)) + 5 * np.eye(6)[label]
    return x.astype(np.float32), label, batch


def test_scores_tell_apart_what_they_are_for(cells):
    x, label, batch = cells
    mixed = integration_scores(x, label, batch)
    apart = integration_scores(x + np.float32(30) * batch[:, None].astype(np.float32), label, batch)
    noise = integration_scores(np.random.default_rng(1).normal(size=x.shape), label, batch)
    assert mixed.keys() == {*LABEL_SCORES, *BATCH_SCORES}
    for name in ("ilisi", "kbet", "silhouette_batch"):
        assert mixed[name] > apart[name] + 0.2, name
    for name in ("nmi", "ari", "silhouette_label", "clisi", "graph_connectivity"):
        assert mixed[name] > noise[name] + 0.05, name
    assert mixed["ari"] > 0.95
    expected = (silhouette_score(x, label) + 1) / 2
    assert mixed["silhouette_label"] == pytest.approx(expected, rel=1e-3)


def test_silhouette_of_batches_is_scib_metrics(cells):
    x, label, batch = cells
    moved = x + np.float32(2) * batch[:, None]
    assert silhouette_batch(moved, label, batch) == pytest.approx(
        import_scib().silhouette_batch(moved, label, batch), 1e-4
    )
    assert np.isnan(silhouette_batch(x, label, label))
    assert "silhouette_batch" not in integration_scores(x, label, label)


def test_columns_of_zeros_change_nothing(cells):
    x, label, batch = cells
    wide = np.pad(x, ((0, 0), (0, 10)))
    assert integration_scores(wide, label, batch) == pytest.approx(integration_scores(x, label, batch), abs=1e-5)


def test_one_batch_or_one_label_leaves_scores_out(cells):
    x, label, batch = cells
    assert integration_scores(x, label, np.zeros(240, int)).keys() == set(LABEL_SCORES)
    assert integration_scores(x, np.zeros(240, int), batch).keys() <= set(BATCH_SCORES)


def test_neighbours_are_exact(cells):
    x = cells[0]
    distances, indices = nearest_cells(x, 7)
    every = np.linalg.norm(x[:, None] - x[None], axis=2)
    assert np.allclose(distances, np.sort(every, 1)[:, :7], atol=2e-3)
    assert (indices[:, 0] == np.arange(240)).all()
    assert nearest_cells(x[:5], 90)[0].shape == (5, 5)
