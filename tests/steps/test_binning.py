import anndata as ad
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from raw_chunk import step, whole

from censusformer.hashing import to_hex


def binning(data, out, *options, i=0):
    files = ("--chunk", data["raw"][i], "--genes", data.genes, "--hvg", data["hvg"][i], "--cells", data["cells"][i])
    return step("binning", *files, "--out", out, *options)


def binned(data, out, *options, i=0):
    assert binning(data, out, *options, i=i) == 0
    return ad.read_h5ad(out)


@pytest.mark.parametrize("i", [0, 1])
def test_kept_cells_and_their_samples_genes_in_the_order_of_the_vocabulary(data, tmp_path, i):
    made = binned(data, tmp_path / "b.h5ad", i=i)
    cells = pq.read_table(data["cells"][i]).to_pandas()
    assert made.obs_names.tolist() == to_hex(cells["cell"].to_numpy())
    for column in ("sample", "dataset_id", "cell_type"):
        assert made.obs[column].tolist() == cells[column].tolist()
    assert made.var_names.tolist() == data.genes_table["feature_id"].tolist()
    assert made.X.dtype == np.uint8
    assert made.obs["tie_var"].dtype == np.float32
    assert made.X.has_sorted_indices
    counts, _ = whole(data)
    lists = pq.read_table(data["hvg"][i]).to_pandas().groupby("sample", observed=True)["feature_id"].agg(set)
    for name, row in zip(made.obs_names, made.X.toarray(), strict=True):
        on = counts.columns[counts.loc[name] > 0]
        assert set(made.var_names[row > 0]) == set(on) & lists[made.obs.loc[name, "sample"]]


def test_bins_lie_within_the_bounds_of_the_definition(data, tmp_path):
    made, middle = binned(data, tmp_path / "b.h5ad"), binned(data, tmp_path / "m.h5ad", "--binning-ties", "middle")
    counts, _ = whole(data)
    moved = 0
    for name, row, centre, tie_var in zip(
        made.obs_names, made.X.toarray(), middle.X.toarray(), made.obs["tie_var"], strict=True
    ):
        v = counts.loc[name].to_numpy()[row > 0]
        edges = np.quantile(v, np.linspace(0, 1, 50))
        lo, hi = (v[:, None] > edges + 1e-9).sum(1), (v[:, None] >= edges - 1e-9).sum(1)
        bins = row[row > 0]
        assert np.all((np.minimum(lo + 1, hi) <= bins) & (bins <= hi))
        assert np.array_equal(centre[row > 0], np.where(lo == hi, hi, (lo + 1 + hi) // 2))
        assert tie_var == pytest.approx(np.mean(np.where(lo == hi, 0, ((hi - lo) ** 2 - 1) / 12)), rel=1e-6)
        moved += np.count_nonzero(bins != centre[row > 0])
    assert moved > 1000
    assert np.all(middle.obs["tie_var"] == 0)


def test_same_seed_same_bytes_other_seed_other_draws(data, tmp_path):
    one, two, three = (tmp_path / f"{name}.h5ad" for name in ("one", "two", "three"))
    first = binned(data, one)
    binned(data, two)
    assert one.read_bytes() == two.read_bytes()
    other = binned(data, three, "--binning-seed", 1)
    assert np.array_equal(first.X.indices, other.X.indices)
    assert 0.1 < np.mean(first.X.data != other.X.data) < 1


def test_order_of_cells_and_genes_changes_no_bin(data, tmp_path):
    rng = np.random.default_rng(5)
    raw = ad.read_h5ad(data["raw"][0])
    raw[rng.permutation(raw.n_obs), rng.permutation(raw.n_vars)].copy().write_h5ad(tmp_path / "raw.h5ad")
    files = ("--genes", data.genes, "--hvg", data["hvg"][0], "--cells", data["cells"][0])
    assert step("binning", "--chunk", tmp_path / "raw.h5ad", *files, "--out", tmp_path / "mixed.h5ad") == 0
    mixed, made = ad.read_h5ad(tmp_path / "mixed.h5ad"), binned(data, tmp_path / "b.h5ad")
    assert (mixed[made.obs_names].X != made.X).nnz == 0
    assert mixed[made.obs_names].obs["tie_var"].tolist() == made.obs["tie_var"].tolist()


def test_more_bins_than_a_byte_holds(data, tmp_path):
    made = binned(data, tmp_path / "b.h5ad", "--binning-n-bins", 1000)
    assert made.X.dtype == np.uint16
    assert made.X.data.max() == 999


def test_a_shared_list_serves_all_samples(data, tmp_path):
    shared = tmp_path / "shared.parquet"
    genes = data.genes_table["feature_id"][:30].tolist()
    pq.write_table(pa.table({"feature_id": genes}), shared)
    made = binned(data, tmp_path / "b.h5ad", "--shared-hvg", shared)
    counts, _ = whole(data)
    expected = counts.loc[made.obs_names].to_numpy() > 0
    expected[:, 30:] = False
    assert np.array_equal(made.X.toarray() > 0, expected)


def test_global_edges_are_the_same_for_all_cells(data, tmp_path):
    files = ("--chunk", data["raw"], "--genes", data.genes, "--hvg", data["hvg"], "--cells", data["cells"])
    edges = tmp_path / "edges.parquet"
    assert step("edges", *files, "--binning-n-bins", 21, "--out", edges) == 0
    options = ("--binning-method", "global", "--binning-n-bins", 21, "--edges", edges, "--binning-ties", "middle")
    e = np.array(pq.read_table(edges)["edge"])
    counts, _ = whole(data)
    n = np.zeros(21, int)
    for i in (0, 1):
        made = binned(data, tmp_path / "b.h5ad", *options, i=i)
        rows = counts.loc[made.obs_names].to_numpy()
        x = np.log1p(rows * 1e4 / rows.sum(1)[:, None]).astype(np.float32)
        bins = made.X.toarray()
        lo, hi = np.searchsorted(e, x, "left"), np.searchsorted(e, x, "right")
        clear = (bins > 0) & (np.abs(x[..., None] - e).min(-1) > 1e-5)  # the last bit of a logarithm may differ
        assert np.array_equal(bins[clear], hi[clear])
        assert np.array_equal(lo[clear], hi[clear])
        assert clear.sum() > 0.5 * (bins > 0).sum()
        n += np.bincount(made.X.data, minlength=21)
    assert n[0] == 0
    assert n[1:].min() > 0


def test_global_needs_its_edges(data, tmp_path, capfd):
    assert binning(data, tmp_path / "b.h5ad", "--binning-method", "global") == 2
    assert "--edges" in capfd.readouterr().err
    edges = tmp_path / "edges.parquet"
    pq.write_table(pa.table({"edge": [0.0, 1.0]}), edges)
    assert binning(data, tmp_path / "b.h5ad", "--binning-method", "global", "--edges", edges) == 2
    assert "2 edges for 51 bins" in capfd.readouterr().err


def test_files_of_another_run_are_refused(data, tmp_path, capfd):
    files = ("--chunk", data["raw"][0], "--genes", data.genes, "--out", tmp_path / "b.h5ad")
    assert step("binning", *files, "--hvg", data["hvg"][0], "--cells", data["cells"][1]) == 2
    assert "does not hold" in capfd.readouterr().err
    assert step("binning", *files, "--hvg", data["hvg"][1], "--cells", data["cells"][0]) == 2
    assert "'e:c'" in capfd.readouterr().err
    fewer = tmp_path / "genes.parquet"
    pq.write_table(pq.read_table(data.genes).slice(50), fewer)
    files = ("--chunk", data["raw"][0], "--genes", fewer, "--out", tmp_path / "b.h5ad")
    assert step("binning", *files, "--hvg", data["hvg"][0], "--cells", data["cells"][0]) == 2
    assert "which is not kept" in capfd.readouterr().err
