"""download: raw counts as the census holds them, checked, as an h5ad that anndata reads; from a folder and from S3."""

import json

import anndata
import hdf5plugin  # noqa: F401 - lets h5py read zstd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_census
import tiledbsoma
from scipy import sparse
from small_census import releases, s3_server, select_options

from censusformer.census import retry
from censusformer.census.layout import write_census
from censusformer.census.parts import Part
from censusformer.cli import main
from censusformer.hashing import to_hex
from censusformer.steps import download


def select(out, *more):
    """The lists that select writes."""
    assert main(select_options(out, *more)) == 0
    return sorted((out / "chunks").glob("*.parquet"))


def fetch(chunk, out):
    """Download a chunk and read it."""
    assert main(["download", "--list", str(chunk), "--out", str(out)]) == 0
    return anndata.read_h5ad(out)


@pytest.fixture(scope="module")
def soma(tmp_path_factory):
    """A small census."""
    return small_census.write(tmp_path_factory.mktemp("somas") / "small")


@pytest.fixture(scope="module")
def lists(tmp_path_factory, soma):
    """Its chunks' lists."""
    return select(tmp_path_factory.mktemp("selected"), "--census-uri", soma)


def test_counts_and_labels_are_those_of_the_census(tmp_path, soma, lists):
    assert len(lists) > 1
    for path in lists:
        listed = pq.read_table(path).to_pandas().sort_values("soma_joinid")
        data = fetch(path, tmp_path / "chunk.h5ad")
        assert data.obs_names.tolist() == to_hex(listed["cell"].to_numpy())
        for column in ("sample", "dataset_id", "donor_id", "soma_joinid", "observation_joinid"):
            assert data.obs[column].tolist() == listed[column].tolist()
        expected = small_census.all_counts(listed["observation_joinid"].tolist(), data.var_names.tolist())
        assert np.array_equal(data.X.toarray(), expected)
        with tiledbsoma.open(soma) as census:
            experiment = census["census_data"]["homo_sapiens"]
            obs = experiment.obs.read((pa.array(listed["soma_joinid"]),)).concat().to_pandas()
            var = experiment.ms["RNA"].var.read().concat().to_pandas()
        assert set(obs.columns) <= set(data.obs.columns)
        for column in obs.columns:
            assert data.obs[column].tolist() == obs[column].tolist()
        assert data.var_names.tolist() == var["feature_id"].tolist()
        assert data.var["feature_name"].tolist() == var["feature_name"].tolist()


def test_it_is_a_plain_compact_csr(tmp_path, lists):
    X = fetch(lists[0], tmp_path / "chunk.h5ad").X
    assert isinstance(X, sparse.csr_matrix)
    assert (X.data.dtype, X.indices.dtype, X.indptr.dtype) == (np.uint16, np.int32, np.int32)
    assert X.has_canonical_format
    assert np.all(X.data > 0)


def test_the_same_list_gives_the_same_bytes(tmp_path, lists, monkeypatch):
    fetch(lists[0], tmp_path / "a.h5ad")
    monkeypatch.setattr(download, "BATCH_CELLS", 17)  # batches are a matter of memory
    fetch(lists[0], tmp_path / "b.h5ad")
    assert (tmp_path / "a.h5ad").read_bytes() == (tmp_path / "b.h5ad").read_bytes()


def test_the_first_list_that_can_be_read_serves(tmp_path, lists):
    (tmp_path / "damaged.parquet").write_bytes(lists[0].read_bytes()[:100])
    names = ["results/*/chunks/none.parquet", str(tmp_path / "damaged.parquet"), str(lists[0])]
    assert main(["download", "--list", *names, "--out", str(tmp_path / "chunk.h5ad")]) == 0


def test_no_list_is_said(tmp_path, capsys):
    out = tmp_path / "chunk.h5ad"
    assert main(["download", "--list", str(tmp_path / "none.parquet"), "--out", str(out)]) == 2
    assert "no list of this chunk's cells" in capsys.readouterr().err
    assert not out.exists()


def refused(path, out, capsys):
    """The message of a download that must fail, and leave nothing."""
    assert main(["download", "--list", str(path), "--out", str(out)]) == 2
    assert not list(out.parent.glob("*.h5ad"))
    return capsys.readouterr().err


def test_values_that_are_no_counts_are_refused(tmp_path, capsys):
    soma = small_census.write(tmp_path / "small", fraction_in="gamma")  # in one cell
    paths = select(tmp_path, "--census-uri", soma, "--census-max-cells", "5000")
    (path,) = [path for path in paths if "gamma-7" in pq.read_table(path)["observation_joinid"].to_pylist()]
    message = refused(path, tmp_path / "out" / "chunk.h5ad", capsys)
    assert "data set gamma: X/raw holds" in message
    assert ".5, which is no count" in message
    assert "census.filter" in message


def test_another_census_behind_the_uri_is_refused(tmp_path, capsys):
    """The same number of cells, other names: what the list says is no longer there."""
    soma = small_census.write(tmp_path / "small")
    path = select(tmp_path, "--census-uri", soma)[0]
    renamed = []
    for part in small_census.parts():
        obs = part.obs.assign(observation_joinid="new-" + part.obs["observation_joinid"])
        renamed.append(Part(part.dataset, obs, part.var, part.counts))
    write_census(soma, renamed)
    assert "the census has changed" in refused(path, tmp_path / "out" / "chunk.h5ad", capsys)


@pytest.mark.parametrize("column", ["nnz", "raw_sum"])
def test_counts_that_do_not_fit_obs_are_refused(tmp_path, capsys, column):
    soma = small_census.write(tmp_path / "small")
    path = select(tmp_path, "--census-uri", soma)[0]
    listed = pq.read_table(path)
    uri = f"{soma}/census_data/homo_sapiens/obs"
    with tiledbsoma.DataFrame.open(uri) as frame:
        row = frame.read(([listed["soma_joinid"][3].as_py()],)).concat()
    wrong = pa.array([row[column][0].as_py() + 1], row[column].type)
    with tiledbsoma.DataFrame.open(uri, "w") as frame:
        frame.write(row.set_column(row.schema.get_field_index(column), row.schema.field(column), wrong))
    message = refused(path, tmp_path / "out" / "chunk.h5ad", capsys)
    assert f"data set {listed['dataset_id'][3].as_py()}: X/raw of 1 cells does not fit obs.{column}" in message


def test_counts_beyond_16_bits_and_columns_of_any_kind(tmp_path):
    part = next(small_census.parts())
    counts = part.counts.tolil()
    counts[:, 3] = 70_000
    obs = part.obs.assign(sample="theirs", flag=part.obs["is_primary_data"], day=np.arange(len(part.obs)))
    write_census(tmp_path / "small", [Part(part.dataset, obs, part.var, counts.tocsr())])
    path = select(tmp_path, "--census-uri", str(tmp_path / "small"), "--census-test-cells", "0")[0]
    data = fetch(path, tmp_path / "chunk.h5ad")
    assert data.X.max() == 70_000
    assert data.X.dtype == np.int32
    assert set(data.obs["census_sample"]) == {"theirs"}
    assert data.obs["flag"].dtype == bool
    assert data.obs["day"].dtype.kind == "i"
    assert set(data.obs["sample"]) <= {f"alpha:{donor}" for donor in small_census.DATASETS[0][2]}


@pytest.fixture(scope="module")
def s3(soma):
    """An S3 server that holds the small census."""
    with s3_server(soma, "2025-11-08/soma") as url:
        yield url


@pytest.fixture
def cloud(tmp_path, s3, monkeypatch):
    """The small census as release 2025-11-08 on S3, with the list of releases on another server."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    with releases(tmp_path / "releases", {"2025-11-08": True, "2026-11-16": False}) as directory:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3)
        monkeypatch.setenv("CENSUSFORMER_CENSUS_DIRECTORY", directory)
        yield s3


def test_a_release_is_read_from_s3_as_a_folder_is(tmp_path, cloud, soma, lists):
    remembered = tmp_path / "census" / "stable.json"
    from_s3 = select(tmp_path / "s3", "--census-version", "stable", "--resolved", remembered)
    assert json.loads(remembered.read_text()) == {"stable": "2025-11-08"}
    record = json.loads((tmp_path / "s3/provenance.json").read_text())
    assert record["census"] == {"asked": "stable", "version": "2025-11-08", "uri": None}
    assert "CC BY 4.0" in record["licence"]
    local = {tuple(pq.read_table(path)["cell"].to_pylist()): path for path in lists}
    for path in from_s3:
        assert path.name.startswith("2025-11-08-")
        source = json.loads(pq.read_schema(path).metadata[b"census"])
        assert source == {"name": "2025-11-08", "organism": "homo_sapiens", "version": "2025-11-08"}
        twin = local[tuple(pq.read_table(path)["cell"].to_pylist())]
        fetch(path, tmp_path / "s3.h5ad")
        fetch(twin, tmp_path / "folder.h5ad")
        assert (tmp_path / "s3.h5ad").read_bytes() == (tmp_path / "folder.h5ad").read_bytes()


def test_an_s3_uri_is_read_too_and_a_wrong_one_named(tmp_path, cloud, capsys):
    path = select(tmp_path / "s3", "--census-uri", "s3://census/2025-11-08/soma")[0]
    assert path.name.startswith("2025-11-08-")
    fetch(path, tmp_path / "s3.h5ad")
    assert main(select_options(tmp_path / "no", "--census-uri", "s3://census/none")) == 2
    assert "census.uri = s3://census/none" in capsys.readouterr().err
    assert main(select_options(tmp_path / "no", "--census-version", "2025-11-09")) == 2
    assert "long-term release: 2025-11-08" in capsys.readouterr().err


def test_a_download_outlives_a_server_that_is_away_for_a_while(tmp_path, cloud, monkeypatch, capsys):
    path = select(tmp_path / "s3", "--census-version", "2025-11-08")[0]
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        if len(waited) == 2:
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", cloud)

    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setattr(retry.time, "sleep", sleep)
    assert fetch(path, tmp_path / "chunk.h5ad").n_obs == pq.read_metadata(path).num_rows
    assert waited == [2, 4]
    assert "attempt 2 of 7: census.version = 2025-11-08: cannot be read" in capsys.readouterr().err


@pytest.mark.blood
def test_real_blood_is_the_same_after_the_way_through_a_census(tmp_path, blood):
    """Counts of real cells, select and download on top of the layout's writer."""
    names = ["citefuse_eccite", "kang_ctrl_stim", "savercat_3donors"]
    files = {name: anndata.read_h5ad(blood / f"{name}.h5ad") for name in names}
    parts = []
    for name, data in files.items():
        obs = data.obs.assign(observation_joinid=data.obs_names.astype(str))
        parts.append(Part({"dataset_id": name}, obs, data.var.reset_index(drop=True), sparse.csr_matrix(data.X)))
    write_census(tmp_path / "soma", parts)
    options = ["--census-uri", str(tmp_path / "soma"), "--census-max-cells", "4000", "--census-test-cells", "400"]
    n_cells = 0
    for path in select(tmp_path, *options, "--chunk-cells", "1500"):
        chunk = fetch(path, tmp_path / "chunk.h5ad")
        for name, rows in chunk.obs.groupby("dataset_id", observed=True):
            expected = files[name][rows["observation_joinid"]]
            genes = expected.var["feature_id"].tolist()
            assert (sparse.csr_matrix(expected.X) != chunk[rows.index, genes].X).nnz == 0
            n_cells += len(rows)
    assert 3000 < n_cells <= 4000
