import anndata as ad
import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from raw_chunk import step, thinned, write_raw


def test_totals_and_cells_of_each_gene(data):
    for path, counts in zip(data["raw"], data["counts"], strict=True):
        raw, table = ad.read_h5ad(path), pq.read_table(counts).to_pandas()
        assert table["feature_id"].tolist() == raw.var_names.tolist()
        assert table["feature_name"].tolist() == raw.var["feature_name"].tolist()
        assert table["total"].tolist() == raw.X.toarray().sum(0).tolist()
        assert table["n_cells"].tolist() == (raw.X.toarray() > 0).sum(0).tolist()
        assert table["total"].dtype == np.int64


@pytest.mark.parametrize("size", [100, 30_000, -1000])
def test_damaged_chunk_is_named(data, tmp_path, capfd, size):
    broken = tmp_path / "broken.h5ad"
    broken.write_bytes(data["raw"][0].read_bytes()[:size])
    assert step("count", "--chunk", broken, "--out", tmp_path / "out.parquet") == 2
    message = capfd.readouterr().err
    assert "broken.h5ad" in message
    assert "delete it and run again" in message
    assert not (tmp_path / "out.parquet").exists()


def damage(path, data, *, place, value):
    path.write_bytes(data["raw"][0].read_bytes())
    with h5py.File(path, "r+") as file:
        file[place][5] = value
    return path


@pytest.mark.parametrize(
    ("place", "value", "why"),
    [
        ("X/data", 0.5, "fractions"),
        ("X/data", -1, "no counts"),
        ("X/indices", 10**6, "passes"),
        ("X/indptr", 1, "rise"),
    ],
)
def test_wrong_values_are_refused(data, tmp_path, capfd, place, value, why):
    broken = damage(tmp_path / "broken.h5ad", data, place=place, value=value)
    assert step("count", "--chunk", broken, "--out", tmp_path / "out.parquet") == 2
    assert why in capfd.readouterr().err


def test_missing_chunk_is_named(tmp_path, capfd):
    assert step("count", "--chunk", tmp_path / "none.h5ad", "--out", tmp_path / "out.parquet") != 0
    message = capfd.readouterr().err
    assert "none.h5ad" in message
    assert "Traceback" not in message


def test_a_chunk_without_cells_counts_nothing(tmp_path):
    counts, names = thinned(0, 30)
    path = write_raw(tmp_path / "empty.h5ad", counts, names, names, [])
    assert step("count", "--chunk", path, "--out", tmp_path / "out.parquet") == 0
    assert pq.read_table(tmp_path / "out.parquet")["total"].to_pylist() == [0] * 30
