import json
import subprocess
import sys
import warnings

import anndata as ad
import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
from raw_chunk import SAMPLES, prepare, step, thinned, whole, write_raw

from censusformer.hashing import cell_keys, from_hex, to_hex
from censusformer.steps import _chunks


def tables(data):
    """All chunks' HVGs and cells."""
    import pandas as pd

    return [pd.concat([pq.read_table(path).to_pandas() for path in data[kind]]) for kind in ("hvg", "cells")]


def scanpys_genes(counts, ids, n_top, flavor="seurat_v3"):
    """Ids of a sample's genes by the contract, from scanpy's scores; and the score at the cut if it is a tie."""
    import scanpy as sc

    on = counts.sum(0) > 0
    data = ad.AnnData(sp.csr_matrix(counts[:, on].astype(np.float64)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scanpy's own
        if not flavor.startswith("seurat_v3"):
            sc.pp.normalize_total(data, target_sum=1e4)
            sc.pp.log1p(data)
        found = sc.pp.highly_variable_genes(data, flavor=flavor, n_top_genes=n_top, span=1.0, inplace=False)
    name = "variances_norm" if flavor.startswith("seurat_v3") else "dispersions_norm"
    ids, score = np.asarray(ids)[on], np.round(found[name].to_numpy(), 9)
    order = np.lexsort((ids, -score))
    return ids[order[: min(n_top, np.count_nonzero(~np.isnan(score)))]].tolist()


@pytest.mark.parametrize("flavor", ["seurat_v3", "seurat", "cell_ranger"])
def test_each_samples_genes_are_scanpys(data, tmp_path, flavor):
    (tmp_path / "raw").symlink_to(data.folder / "raw")
    made = prepare(tmp_path, data.chunks, hvg=("--hvg-flavor", flavor))
    selected, cells = tables(made)
    counts, obs = whole(made)
    kept = counts.loc[(counts > 0).sum(axis=1) >= 20]
    assert sorted(to_hex(cells["cell"].to_numpy())) == sorted(kept.index)
    for sample in SAMPLES:
        ours = selected[selected["sample"] == sample]
        theirs = scanpys_genes(kept[obs.loc[kept.index, "sample"] == sample].to_numpy(), kept.columns, 100, flavor)
        assert ours["feature_id"].tolist() == theirs
        assert ours["rank"].tolist() == list(range(100))
        assert np.all(np.diff(ours["score"]) <= 0)


def test_cells_have_their_labels_and_quality(data):
    _, cells = tables(data)
    counts, obs = whole(data)
    names = to_hex(cells["cell"].to_numpy())
    counts, obs = counts.loc[names], obs.loc[names]
    for column in ("sample", "dataset_id", "donor_id", "cell_type", "soma_joinid"):
        assert cells[column].tolist() == obs[column].tolist()
    mito = data.genes_table["feature_name"].str.startswith("MT-").to_numpy()
    assert 0 < mito.sum() <= 5
    assert cells["n_counts"].tolist() == counts.sum(axis=1).tolist()
    assert cells["n_genes"].tolist() == (counts > 0).sum(axis=1).tolist()
    share = 100 * counts.loc[:, mito].sum(axis=1) / counts.sum(axis=1)
    np.testing.assert_allclose(cells["pct_mito"], share, rtol=1e-6)
    rows = [row.tobytes() for row in counts.to_numpy(np.int64)]
    assert cells.groupby(rows)["counts_hash"].nunique().eq(1).all()
    assert cells["counts_hash"].nunique() == len(set(rows))
    schema = pq.read_schema(data["cells"][0])
    assert [str(schema.field(name).type) for name in ("cell", "soma_joinid", "pct_mito")] == [
        "uint64",
        "int64",
        "float",
    ]
    assert str(pq.read_schema(data["hvg"][0]).field("rank").type) == "int32"


@pytest.fixture(name="poor")
def _poor(tmp_path, capfd):
    """A chunk with a sample of poor cells alone, one with some, and one of a single cell."""
    counts, names = thinned(100, 300)
    counts[:20, 10:] = 0
    counts[20:25, 10:] = 0
    samples = ["d:poor"] * 20 + ["d:some"] * 79 + ["d:one"]
    write_raw(tmp_path / "raw/c.h5ad", counts, names, names, samples)
    made = prepare(tmp_path, ["c"], min_counts=1, n_top=290)
    return made, capfd.readouterr().err


def test_poor_cells_are_dropped_and_counted_by_sample(poor):
    made, _ = poor
    _, cells = tables(made)
    assert cells["sample"].value_counts().to_dict() == {"d:some": 74, "d:one": 1}
    dropped = json.loads(pq.read_schema(made["cells"][0]).metadata[b"dropped"])
    assert dropped == {"d:poor": 20, "d:some": 5, "d:one": 0}


def test_small_samples_are_told_and_end_well(poor):
    made, log = poor
    selected, _ = tables(made)
    assert "sample d:poor: no cell is left" in log
    assert "filter.min_genes_per_cell" in log
    assert set(selected["sample"]) == {"d:one", "d:some"}
    one = selected[selected["sample"] == "d:one"]
    assert len(one) < 290
    assert f"sample d:one: {len(one)} genes instead of 290" in log
    assert json.loads(pq.read_schema(made["hvg"][0]).metadata[b"refits"]) == {"d:one": None}
    assert "sample d:one: one cell has no variance" in log


def test_no_cell_is_left_at_all(tmp_path):
    counts, names = thinned(30, 100)
    write_raw(tmp_path / "raw/c.h5ad", counts, names, names, ["d:a"] * 30)
    for flavor in ("seurat_v3", "seurat"):
        made = prepare(tmp_path, ["c"], min_genes=1000, hvg=("--hvg-flavor", flavor))
        assert [len(table) for table in tables(made)] == [0, 0]


def test_loess_with_too_small_a_span_is_refitted_and_told(tmp_path, capfd):
    counts, names = thinned(12, 300)
    write_raw(tmp_path / "raw/c.h5ad", np.minimum(counts, 1), names, names, ["d:a"] * 12)
    made = prepare(tmp_path, ["c"], min_counts=1, hvg=("--hvg-span", 0.05))
    used = json.loads(pq.read_schema(made["hvg"][0]).metadata[b"refits"])["d:a"]
    assert used is None or used > 0.05
    assert "sample d:a: loess" in capfd.readouterr().err
    assert len(tables(made)[0]) == 100


def test_blocks_change_no_byte(data, tmp_path, monkeypatch):
    (tmp_path / "raw").symlink_to(data.folder / "raw")
    monkeypatch.setattr(_chunks.Chunk.rows, "__defaults__", (1000,))
    made = prepare(tmp_path, data.chunks)
    for kind in ("hvg", "cells", "counts"):
        assert [path.read_bytes() for path in made[kind]] == [path.read_bytes() for path in data[kind]]


def test_order_of_cells_and_genes_changes_no_choice(data, tmp_path):
    rng = np.random.default_rng(5)
    for path in data["raw"]:
        raw = ad.read_h5ad(path)
        mixed = raw[rng.permutation(raw.n_obs), rng.permutation(raw.n_vars)].copy()
        (tmp_path / "raw").mkdir(exist_ok=True)
        mixed.write_h5ad(tmp_path / "raw" / path.name)
    made = prepare(tmp_path, data.chunks)
    assert [path.read_bytes() for path in made["hvg"]] == [path.read_bytes() for path in data["hvg"]]


def test_it_starts_without_scanpy_and_anndata(data, tmp_path):
    arguments = ["hvg", "--chunk", data["raw"][0], "--genes", data.genes]
    arguments += ["--out-hvg", tmp_path / "h.parquet", "--out-cells", tmp_path / "c.parquet"]
    code = (
        "import sys; from censusformer.cli import main; assert main(sys.argv[1:]) == 0; "
        "assert not {'scanpy', 'anndata', 'sklearn', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "option", [("--hvg-span", 0), ("--hvg-span", 1.5), ("--hvg-n-top", 0), ("--normalize-target-sum", 0)], ids=str
)
def test_options_out_of_range_are_named(data, tmp_path, capfd, option):
    files = ("--out-hvg", tmp_path / "h.parquet", "--out-cells", tmp_path / "c.parquet")
    with pytest.raises(SystemExit, match="2"):
        step("hvg", "--chunk", data["raw"][0], "--genes", data.genes, *files, *option)
    assert f"argument {option[0]}: {option[1]} is" in capfd.readouterr().err


def test_a_chunk_without_samples_is_refused(data, tmp_path, capfd):
    raw = ad.read_h5ad(data["raw"][0])
    del raw.obs["sample"]
    raw.write_h5ad(tmp_path / "c.h5ad")
    files = ("--out-hvg", tmp_path / "h.parquet", "--out-cells", tmp_path / "c.parquet")
    assert step("hvg", "--chunk", tmp_path / "c.h5ad", "--genes", data.genes, *files) == 2
    assert "obs has no column 'sample'" in capfd.readouterr().err


@pytest.mark.blood
def test_blood_samples_have_scanpys_genes(blood, tmp_path):
    names = ("kang_ctrl_stim", "citefuse_eccite", "savercat_3donors")
    for name in names:
        raw = ad.read_h5ad(blood / f"{name}.h5ad")
        raw.obs_names = to_hex(cell_keys(raw.obs["dataset_id"].astype(str), raw.obs_names))
        raw.obs["sample"] = raw.obs["dataset_id"].astype(str) + ":" + raw.obs["donor_id"].astype(str)
        raw.obs["soma_joinid"] = np.arange(raw.n_obs)
        (tmp_path / "raw").mkdir(exist_ok=True)
        raw.write_h5ad(tmp_path / "raw" / f"{name}.h5ad")
    made = prepare(tmp_path, names, n_top=1200)
    for path, hvgs, cells in zip(made["raw"], made["hvg"], made["cells"], strict=True):
        raw, selected, kept = ad.read_h5ad(path), pq.read_table(hvgs).to_pandas(), pq.read_table(cells).to_pandas()
        raw = raw[:, np.isin(raw.var_names, made.genes_table["feature_id"])]
        assert len(kept)
        for sample, rows in raw.obs.groupby("sample", observed=True).indices.items():
            part = raw[rows]
            names_kept = from_hex(part.obs_names[np.asarray((part.X > 0).sum(1)).ravel() >= 20])
            assert set(names_kept) == set(kept.loc[kept["sample"] == sample, "cell"])
            if len(names_kept) >= 50:
                counts = part[np.isin(from_hex(part.obs_names), names_kept)].X.toarray()
                ours = selected.loc[selected["sample"] == sample, "feature_id"]
                assert ours.tolist() != []
                assert set(ours) == set(scanpys_genes(counts, part.var_names, 1200)), sample
