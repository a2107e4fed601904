import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from censusformer.evaluation import gene_vectors as g
from censusformer.evaluation.markers import MARKERS, marker_genes


@pytest.fixture(scope="module")
def planted():
    """300 genes, of which three sets of ten point in directions of their own."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 16)).astype(np.float32)
    sets = {name: np.arange(start, start + 10) for name, start in (("a", 0), ("b", 50), ("c", 100))}
    for number, genes in enumerate(sets.values()):
        vectors[genes] += 6 * np.eye(16)[number]
    n_cells = rng.integers(20, 5000, 300)
    n_cells[290:] = 3
    return vectors, n_cells, sets


def test_neighbours_are_the_nearest_by_cosine(planted):
    vectors, n_cells, sets = planted
    compared = n_cells >= 20
    unit = g.unit_vectors(vectors, compared)
    near, cosines = g.nearest(unit, compared, 9)
    assert near.shape == cosines.shape == (290, 9)
    similar = unit @ unit.T - 2 * np.eye(300)
    similar[:, ~compared] = -2
    assert np.allclose(cosines, -np.sort(-similar[compared], axis=1)[:, :9], atol=1e-5)
    for genes in sets.values():
        assert np.isin(near[genes], genes).mean() > 0.7  # by chance 0.03
    assert np.allclose(unit[compared].mean(0), 0, atol=0.1)


def test_few_genes_have_few_neighbours():
    compared = np.array([True, True, False])
    unit = g.unit_vectors(np.eye(3, dtype=np.float32), compared)
    assert g.nearest(unit, compared)[0].tolist() == [[1], [0]]
    assert g.nearest(unit, np.array([True, False, False]))[0].shape == (1, 0)


def test_planted_sets_are_found_and_random_ones_are_not(planted):
    vectors, n_cells, sets = planted
    compared = n_cells >= 20
    random = {name: genes + 150 for name, genes in sets.items()}
    unit = g.unit_vectors(vectors, compared)
    for chosen, found in ((sets, True), (random, False)):
        rows = list(g.enrichment(unit, compared, n_cells, chosen))
        assert [row.name for row in rows] == ["a", "b", "c", "all"]
        for row in rows:
            assert (row.p < 0.005) == found, row
            assert (row.value > row.high) == found
            assert row.low <= row.expected <= row.high


def test_small_sets_and_untrained_genes_are_left_out(planted):
    vectors, n_cells, _ = planted
    compared = n_cells >= 20
    sets = {"small": np.array([1, 2]), "rare": np.arange(288, 300), "good": np.arange(5)}
    rows = list(g.enrichment(g.unit_vectors(vectors, compared), compared, n_cells, sets))
    assert [(row.name, row.n) for row in rows] == [("good", 5)]


def test_genes_are_drawn_among_those_shown_as_often(planted):
    _, n_cells, sets = planted
    compared, markers = n_cells >= 20, np.concatenate(list(sets.values()))
    drawn = g.drawn_in_place(markers, compared, n_cells)
    assert compared[drawn].all()
    ranks = np.empty(300)
    ranks[np.flatnonzero(compared)] = np.argsort(np.argsort(n_cells[compared], kind="stable"))
    assert np.abs(ranks[drawn] - ranks[markers]).max() <= 290 / 10
    assert all(len(set(row)) == len(row) for row in drawn.tolist())


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.floats(0, 100)), min_size=1, max_size=80))
def test_errors_by_frequency_add_up(rows):
    gene, sample, errors = (np.array(column) for column in zip(*rows, strict=True))
    n_cells = np.array([0, 3, 9, 10, 200000])
    frame = g.error_by_frequency({"gep": errors}, gene, sample, n_cells)
    assert frame["n"].sum() == len(rows)
    assert (frame["n"] * frame["mse"]).sum() == pytest.approx(errors.sum())
    rare = errors[(gene == 1) | (gene == 2)]
    if len(rare):
        row = frame[frame["at_least"] == 1].iloc[0]
        assert (row["mse"], row["below"]) == (pytest.approx(rare.mean()), 10)
    assert (frame["low"].isna() == frame["high"].isna()).all()


def test_markers_are_distinct_and_found_whatever_their_case():
    every = [gene for genes in MARKERS.values() for gene in genes]
    assert len(every) == len(set(every))
    found = marker_genes(["Cd79a", "x", "CD3D"])
    assert found["B cell"] == [0] and found["T cell"] == [2] and found["platelet"] == []
