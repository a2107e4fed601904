"""Querying a census: the cells of a filter, by sample, and raw counts as they were written."""

import numpy as np
import pyarrow as pa
import pytest
import small_census
from hypothesis import given, settings
from hypothesis import strategies as st

from censusformer.census import query
from censusformer.census.open import Source, experiment, open_census
from censusformer.errors import InputError


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """The experiment of a small census."""
    source = Source("homo_sapiens", "x", uri=small_census.write(tmp_path_factory.mktemp("somas") / "small"))
    with open_census(source) as census:
        yield experiment(census, source)


@pytest.fixture(scope="module")
def matrix(cells):
    """All counts as they were before the census was written, in the order of its joinids."""
    return small_census.all_counts(
        query.observation_names(cells, np.arange(1290)), query.read_var(cells)["feature_id"].tolist()
    )


def test_a_filter_is_pushed_down_and_cells_are_grouped(cells):
    selection = query.select_cells(cells, "donor_id == 'd1' and is_primary_data == True")
    assert selection.samples == [("alpha", "d1"), ("beta", "d1"), ("gamma", "d1")]
    obs = cells.obs.read().concat().to_pandas()
    obs = obs[(obs.donor_id == "d1") & obs.is_primary_data]
    assert selection.joinid.tolist() == obs.soma_joinid.tolist()
    assert selection.n_cells.tolist() == obs.dataset_id.value_counts()[["alpha", "beta", "gamma"]].tolist()
    assert selection.nnz.tolist() == obs.nnz.tolist()


def test_an_empty_filter_selects_all(cells):
    assert len(query.select_cells(cells, " ").joinid) == 1290


@pytest.mark.parametrize(
    "value_filter",
    ["tissue == ", "tissue = 'blood'", "tisue_general == 'blood'", "nnz > 'many'", "is_primary_data", "open('x')"],
)
def test_a_filter_that_cannot_be_understood_is_named_with_the_columns(cells, value_filter):
    with pytest.raises(InputError) as caught:
        query.select_cells(cells, value_filter)
    assert "census.filter" in str(caught.value)
    assert "tissue_general, " in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert "At:" not in str(caught.value)


def test_a_filter_that_selects_nothing_is_named(cells):
    with pytest.raises(InputError, match=r"census.filter = .*selects no cell"):
        query.select_cells(cells, "tissue_general == 'blod'")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["x", "y", None, ""])), min_size=1), st.randoms())
def test_grouping_does_not_depend_on_the_order_of_rows_or_how_text_is_stored(rows, random):
    table = pa.table(
        {
            "soma_joinid": pa.array(range(len(rows)), pa.int64()),
            "dataset_id": [dataset for dataset, _ in rows],
            "donor_id": pa.array([donor for _, donor in rows], pa.string()).dictionary_encode(),
            "person": pa.array([donor for _, donor in rows], pa.large_string()),
        }
    )
    order = list(range(len(rows)))
    random.shuffle(order)
    one, other = query.selection(table), query.selection(table.take(order))
    assert one.samples == other.samples
    assert one.persons == other.persons == [frozenset({donor}) for _, donor in one.samples]
    assert one.sample.tolist() == other.sample.tolist()
    assert [one.samples[i] for i in one.sample] == [(dataset, donor or "") for dataset, donor in rows]


@pytest.mark.parametrize(
    "joinid",
    [
        np.arange(1290),
        np.arange(5, 300),
        np.arange(0, 1290, 7),
        np.r_[3:9, 100:260, 900:1290],
        np.array([8]),
        np.arange(0),
    ],
)
def test_counts_are_those_of_the_cells(cells, matrix, joinid):
    genes = query.read_var(cells)["soma_joinid"].to_numpy()
    counts = query.read_counts(cells, joinid.astype(np.int64), genes)
    assert counts.shape == (len(joinid), len(genes))
    assert counts.has_canonical_format
    assert counts.indices.dtype == np.int32
    assert np.all(counts.data > 0)
    assert np.array_equal(counts.toarray(), matrix[joinid])


def test_obs_comes_in_the_order_asked_for_or_not_at_all(cells):
    joinid = np.r_[3:9, 800:900].astype(np.int64)
    assert query.read_obs(cells, joinid)["soma_joinid"].to_pylist() == joinid.tolist()
    names = query.observation_names(cells, joinid)
    assert names[0].startswith("alpha-")
    assert len(set(names)) == len(joinid)
    with pytest.raises(InputError, match="obs has 1 of 2 cells"):
        query.read_obs(cells, np.array([5, 5000]))


def test_tables_about_the_census(tmp_path):
    source = Source("homo_sapiens", "x", uri=small_census.write(tmp_path / "small"))
    with open_census(source) as census:
        datasets, summary = query.read_datasets(census), query.read_summary(census)
    assert datasets.loc["beta", "collection_id"] == "C1"
    assert summary["total_cell_count"] == "1290"
