"""The Census's own package reads what we write, and reads what was put in."""

import cellxgene_census
import numpy as np
import pandas as pd
import pytest
import tiledbsoma as soma
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from censusformer.census.layout import write_census
from censusformer.census.parts import DATASET_COLUMNS, OBS_DEFAULTS, Part, complete_obs, counts_digest, filled, measures
from censusformer.census.real_cells import read_sample
from censusformer.census.symbols import ids_of, package_file, read_gencode
from censusformer.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:Transforming to str index")  # get_anndata's own


@pytest.fixture(scope="session")
def real():
    """Names, ids, symbols and counts of the 559 real cells that celltypist ships."""
    names, symbols, counts = read_sample(package_file("celltypist", "data/samples/sample_cell_by_gene.csv"))
    ids = ids_of(symbols, read_gencode())
    known = np.flatnonzero(ids != "")
    return names, ids[known], symbols[known], counts[:, known]


def part_of(real, dataset_id, rows, columns, **more):
    """A dataset of some real cells and genes, three donors in turn."""
    names, ids, symbols, counts = real
    donors = np.array(["b", "a", "c"])[np.arange(len(rows)) % 3]
    obs = pd.DataFrame({"observation_joinid": names[rows], "donor_id": donors, "tissue_general": "blood", **more})
    var = pd.DataFrame({"feature_id": ids[columns], "feature_name": symbols[columns]})
    return Part({"dataset_id": dataset_id, "collection_id": "here"}, obs, var, counts[rows][:, columns])


@pytest.fixture(scope="module")
def parts(real):
    lane = np.where(np.arange(90) % 2, "L1", "L2")
    return [
        part_of(real, "one", np.arange(90), np.arange(0, 6000), lane=lane, age=np.arange(90) / 2),
        part_of(real, "two", np.arange(90, 150), np.arange(3000, 9000)[::-1], is_primary_data=False),
    ]


@pytest.fixture(scope="module")
def census(parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("layout") / "census"
    write_census(folder, iter(parts))
    (folder / ".snakemake_timestamp").touch()  # what Snakemake leaves in a folder that a rule writes
    with cellxgene_census.open_soma(uri=str(folder)) as opened:
        yield opened


def dense(adata):
    """Counts as a frame of cells by genes, both by name."""
    return pd.DataFrame(adata.X.toarray(), adata.obs["observation_joinid"], adata.var["feature_id"])


@pytest.mark.parametrize("place", [0, 1])
def test_get_anndata_gives_the_counts_that_were_written(census, parts, place):
    part = parts[place]
    adata = cellxgene_census.get_anndata(
        census, "Homo sapiens", obs_value_filter=f"dataset_id == '{part.dataset['dataset_id']}'"
    )
    read = dense(adata)
    given = pd.DataFrame(part.counts.toarray(), part.obs["observation_joinid"], part.var["feature_id"])
    assert read.shape[0] == len(part.obs)
    assert (read.loc[given.index, given.columns].to_numpy() == given.to_numpy()).all()
    assert not read.drop(columns=given.columns).to_numpy().any()
    assert census["census_data"]["homo_sapiens"].ms["RNA"].X["raw"].schema.field("soma_data").type == "float"


def test_get_obs_gives_the_columns_of_the_census_and_those_of_ones_own(census, parts):
    obs = cellxgene_census.get_obs(census, "homo_sapiens")
    assert set(OBS_DEFAULTS) | {"soma_joinid", "dataset_id", "observation_joinid", "lane", "age"} < set(obs)
    assert obs["soma_joinid"].tolist() == list(range(150))
    assert obs["is_primary_data"].tolist() == [True] * 90 + [False] * 60
    assert obs["lane"][90:].eq("unknown").all()
    assert obs["age"][90:].isna().all()
    own = obs[:90].set_index("observation_joinid")
    assert (own.loc[parts[0].obs["observation_joinid"], "age"].to_numpy() == parts[0].obs["age"]).all()
    totals = dict(zip(parts[0].obs["observation_joinid"], parts[0].counts.sum(axis=1), strict=True))
    assert own["raw_sum"].to_dict() == totals
    assert (own["n_measured_vars"] == 6000).all()


def test_cells_of_a_donor_lie_together(census):
    obs = cellxgene_census.get_obs(census, "homo_sapiens", column_names=["dataset_id", "donor_id"])
    sample = obs["dataset_id"].astype(str) + obs["donor_id"].astype(str)
    assert (sample != sample.shift()).sum() == sample.nunique() == 6


def test_value_filters_work_on_categories_and_truth_values(census):
    found = cellxgene_census.get_obs(
        census,
        "homo_sapiens",
        value_filter="is_primary_data == True and tissue_general == 'blood' and donor_id in ['a']",
    )
    assert len(found) == 30
    assert not len(cellxgene_census.get_obs(census, "homo_sapiens", value_filter="tissue_general == 'nowhere'"))


def test_presence_says_which_dataset_measured_what(census, parts):
    presence = cellxgene_census.get_presence_matrix(census, "Homo sapiens").toarray()
    var = cellxgene_census.get_var(census, "homo_sapiens")
    datasets = census["census_info"]["datasets"].read().concat().to_pandas()
    assert var["soma_joinid"].tolist() == list(range(9000))
    assert var["feature_id"].is_unique
    for row, dataset_id in enumerate(datasets["dataset_id"]):
        part = next(part for part in parts if part.dataset["dataset_id"] == dataset_id)
        assert set(var["feature_id"][presence[row] == 1]) == set(part.var["feature_id"])
    expressed = dense(cellxgene_census.get_anndata(census, "Homo sapiens")).astype(bool)
    assert (var["nnz"].to_numpy() == expressed.sum()[var["feature_id"]].to_numpy()).all()
    assert set(var["n_measured_obs"]) == {90, 150, 60}


def test_census_info_has_the_tables_of_the_schema(census, parts):
    info = {name: census["census_info"][name].read().concat().to_pandas() for name in census["census_info"]}
    assert set(info) == {"summary", "datasets", "summary_cell_counts", "organisms"}
    summary = dict(zip(info["summary"]["label"], info["summary"]["value"], strict=True))
    assert (summary["total_cell_count"], summary["unique_cell_count"]) == ("150", "90")
    assert {"census_schema_version", "census_build_date"} < set(summary)
    assert set(DATASET_COLUMNS) < set(info["datasets"])
    assert info["datasets"]["dataset_total_cell_count"].tolist() == [90, 60]
    assert info["datasets"]["counts_digest"].tolist() == [counts_digest(part) for part in parts]
    blood = info["summary_cell_counts"].query("category == 'tissue_general'")
    assert blood[["label", "total_cell_count", "unique_cell_count"]].to_numpy().tolist() == [["blood", 150, 90]]


def test_counts_are_written_in_blocks_alike(parts, tmp_path, monkeypatch):
    monkeypatch.setattr("censusformer.census.layout._BLOCK", 7000)
    write_census(tmp_path / "census", parts)
    with soma.open(str(tmp_path / "census")) as census:
        raw = census["census_data"]["homo_sapiens"].ms["RNA"].X["raw"]
        assert raw.nnz == sum(part.counts.nnz for part in parts)
        read = raw.read((slice(None),)).coos((150, 9000)).concat().to_scipy()
    assert read.sum() == sum(part.counts.sum() for part in parts)


def test_zeros_duplicates_and_cells_without_counts_are_written_right(tmp_path):
    """Entries of one place are summed, stored zeros are none, whatever a matrix holds; empty cells and parts count."""
    entries = ([1, 2, 0, 4], ([0, 0, 0, 2], [1, 1, 0, 2]))
    counts = sparse.csr_matrix(sparse.coo_matrix(entries, shape=(3, 4)).todense())
    twice = sparse.csr_matrix((np.array([1, 2, 0, 4.0]), np.array([1, 1, 0, 2]), np.array([0, 3, 3, 4])), shape=(3, 4))
    obs = pd.DataFrame({"observation_joinid": ["x", "y", "z"], "donor_id": "d"})
    var = pd.DataFrame({"feature_id": list("abcd"), "feature_name": list("abcd")})
    empty = sparse.csr_matrix((3, 4))
    parts = [Part({"dataset_id": "zero"}, obs, var, empty), Part({"dataset_id": "two"}, obs, var, twice)]
    datasets = write_census(tmp_path / "census", parts)
    assert datasets["counts_digest"][1] == counts_digest(Part({}, obs, var, counts))
    with cellxgene_census.open_soma(uri=str(tmp_path / "census")) as census:
        adata = cellxgene_census.get_anndata(census, "homo_sapiens")
    assert adata.X.toarray().tolist() == [[0] * 4] * 3 + [[0, 3, 0, 0], [0] * 4, [0, 0, 4, 0]]
    assert adata.obs["nnz"].tolist() == [0, 0, 0, 1, 0, 1]
    assert adata.var["nnz"].tolist() == [0, 1, 1, 0]


def test_a_census_appears_whole_or_not_at_all(parts, tmp_path):
    folder = tmp_path / "census"
    write_census(folder, parts[:1])

    def broken():
        yield parts[1]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_census(folder, broken())
    assert [path.name for path in tmp_path.iterdir()] == ["census"]
    with soma.open(str(folder)) as census:
        assert census["census_info"]["datasets"].count == 1
    write_census(folder, parts)
    assert [path.name for path in tmp_path.iterdir()] == ["census"]
    with soma.open(str(folder)) as census:
        assert census["census_info"]["datasets"].count == 2


def test_two_datasets_of_one_name_are_refused(parts, tmp_path):
    with pytest.raises(InputError, match="'one' stands for two datasets"):
        write_census(tmp_path / "census", [parts[0], parts[0]])
    with pytest.raises(InputError, match="no dataset"):
        write_census(tmp_path / "census", [])
    assert not list(tmp_path.iterdir())


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_the_digest_ignores_order_and_sees_counts_and_labels(seed):
    generator = np.random.default_rng(seed)
    counts = sparse.csr_matrix(generator.poisson(0.5, (9, 7)))
    obs = pd.DataFrame({"observation_joinid": [f"c{i}" for i in range(9)], "donor_id": "d", "age": range(9)})
    var = pd.DataFrame({"feature_id": [f"ENSG{i}" for i in range(7)]})
    digest = counts_digest(Part({}, obs, var, counts))
    rows, columns = generator.permutation(9), generator.permutation(7)
    assert counts_digest(Part({}, obs.iloc[rows], var.iloc[columns], counts[rows][:, columns])) == digest
    other = counts.tolil()
    other[generator.integers(9), generator.integers(7)] += 1
    assert counts_digest(Part({}, obs, var, other.tocsr())) != digest
    assert counts_digest(Part({}, obs.assign(age=range(1, 10)), var, counts)) != digest


def test_obs_is_completed_and_missing_values_are_filled():
    obs = pd.DataFrame(
        {
            "donor_id": pd.Categorical(["a", None]),
            "person": ["p", None],
            "n": pd.array([1, None], dtype="Int64"),
            "half": np.array([0.5, 1], np.float16),
            "flag": pd.Categorical([True, False]),
            "is_primary_data": [None, False],
        }
    )
    done = complete_obs(obs, "mine")
    assert done["dataset_id"].tolist() == ["mine", "mine"]
    assert done["donor_id"].tolist() == ["a", "unknown"]
    assert done["person"].tolist() == ["p", "unknown"]
    assert done["is_primary_data"].tolist() == [True, False]
    assert done["suspension_type"].tolist() == ["cell", "cell"]
    assert done["n"].dtype == done["half"].dtype == np.float64
    assert filled(pd.Series([True, None])).tolist() == ["True", "unknown"]


def test_measures_are_those_of_the_nonzero_counts():
    found = measures(sparse.csr_matrix([[1, 0, 3, 5], [0, 0, 0, 0], [2, 0, 0, 0]]))
    assert found["raw_sum"].tolist() == [9, 0, 2]
    assert found["nnz"].tolist() == [3, 0, 1]
    assert found["raw_mean_nnz"].tolist() == [3, 0, 2]
    assert found["raw_variance_nnz"].tolist() == pytest.approx([np.var([1, 3, 5], ddof=1), 0, 0])
