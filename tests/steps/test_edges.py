import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from raw_chunk import step, whole


def edges(data, out, *options):
    files = ("--chunk", data["raw"], "--genes", data.genes, "--hvg", data["hvg"], "--cells", data["cells"])
    return step("edges", *files, "--out", out, *options)


def values(data, log1p=True):
    """Normalised values of all kept cells' HVGs."""
    counts, obs = whole(data)
    counts = counts.loc[(counts > 0).sum(axis=1) >= 20]
    total = counts.sum(axis=1).to_numpy()[:, None]
    chosen = np.zeros(counts.shape, bool)
    for path in data["hvg"]:
        for sample, table in pq.read_table(path).to_pandas().groupby("sample", observed=True):
            rows = (obs.loc[counts.index, "sample"] == sample).to_numpy()
            chosen[np.ix_(rows, counts.columns.isin(table["feature_id"]))] = True
    normalised = counts.to_numpy() * 1e4 / total
    found = (np.log1p(normalised) if log1p else normalised)[chosen]
    return found[found > 0]


@pytest.mark.parametrize("log1p", [True, False])
def test_edges_are_the_quantiles_of_all_values(data, tmp_path, log1p):
    options = ("--binning-n-bins", 21, "--normalize-log1p", str(log1p).lower())
    assert edges(data, tmp_path / "e.parquet", *options) == 0
    table = pq.read_table(tmp_path / "e.parquet")
    expected = values(data, log1p)
    np.testing.assert_allclose(table["edge"], np.quantile(expected, np.linspace(0, 1, 20)), rtol=1e-6)
    assert int(table.schema.metadata[b"n_values"]) == len(expected)


def test_order_of_chunks_changes_no_byte(data, tmp_path):
    assert edges(data, tmp_path / "e.parquet") == 0
    files = [item for kind in ("raw", "hvg", "cells") for item in (f"--{kind}", data[kind][::-1])]
    files[0] = "--chunk"
    assert step("edges", *files, "--genes", data.genes, "--out", tmp_path / "f.parquet") == 0
    assert (tmp_path / "e.parquet").read_bytes() == (tmp_path / "f.parquet").read_bytes()


def test_a_shared_list_serves_all_samples(data, tmp_path):
    shared = tmp_path / "shared.parquet"
    genes = data.genes_table["feature_id"][:7].tolist()
    pq.write_table(pa.table({"feature_id": genes}), shared)
    assert edges(data, tmp_path / "e.parquet", "--shared-hvg", shared) == 0
    n = int(pq.read_schema(tmp_path / "e.parquet").metadata[b"n_values"])
    counts, _ = whole(data)
    assert n == np.count_nonzero(counts.loc[(counts > 0).sum(axis=1) >= 20, genes])


def test_files_that_do_not_pair_are_refused(data, tmp_path, capfd):
    files = ("--chunk", data["raw"], "--genes", data.genes, "--hvg", data["hvg"][:1], "--cells", data["cells"])
    assert step("edges", *files, "--out", tmp_path / "e.parquet") == 2
    assert "different numbers" in capfd.readouterr().err


def test_no_value_at_all_is_an_error(data, tmp_path, capfd):
    shared = tmp_path / "shared.parquet"
    pq.write_table(pa.table({"feature_id": pa.array([], pa.string())}), shared)
    assert edges(data, tmp_path / "e.parquet", "--shared-hvg", shared) == 2
    assert "filter.min_genes_per_cell" in capfd.readouterr().err
