"""Donors and data sets of any name go through every step; none becomes a path, shell text or HTML."""

import re

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from raw_chunk import step, thinned
from scipy import sparse

DONORS = [
    "../../x",
    "<script>alert(1)</script>",
    'O\'Brien "x" & $(touch pwned); `id`',
    "ü 漢\u202e",
    "-rf",
    "a/b",
    "plain",
]
DATASETS = ["../../set", "<b>bold</b>"]
N = 60  # cells of each donor


def own_file(path):
    """Real cells of these donors, in data sets of odd names."""
    counts, names = thinned(N * len(DONORS) * len(DATASETS), 400)
    n = len(counts)
    obs = pd.DataFrame(
        {
            "donor_id": np.array(DONORS, object)[np.arange(n) % len(DONORS)],
            "dataset_id": np.array(DATASETS, object)[np.arange(n) // len(DONORS) % len(DATASETS)],
            "cell_type": np.array(["<i>T</i> cell", "B cell"], object)[np.arange(n) % 2],
        },
        index=[f"c{i}" for i in range(n)],
    )
    var = pd.DataFrame({"feature_name": names}, index=[f"ENSG{i:011d}" for i in range(len(names))])
    ad.AnnData(sparse.csr_matrix(counts.astype(np.float32)), obs, var).write_h5ad(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder three levels below another, in which every step has run."""
    place = tmp_path_factory.mktemp("outside") / "a/b/c"
    place.mkdir(parents=True)
    own_file(place / "own.h5ad")
    soma = place / "soma"
    assert step("ingest", "--h5ad", place / "own.h5ad", "--out", soma) == 0
    chosen = (
        "--out",
        place / "chunks",
        "--samples",
        place / "samples.parquet",
        "--provenance",
        place / "provenance.json",
    )
    limits = ("--census-test-cells", 70, "--census-min-cells-per-sample", 10, "--chunk-cells", 300)
    assert step("select", "--census-uri", soma, "--name", "h5ad", *chosen, "--census-filter", "", *limits) == 0
    chunks = sorted((place / "chunks").glob("*.parquet"))
    raw = {chunk.stem: place / f"raw/{chunk.stem}.h5ad" for chunk in chunks}
    for chunk in chunks:
        assert step("download", "--list", chunk, "--out", raw[chunk.stem]) == 0
        assert step("count", "--chunk", raw[chunk.stem], "--out", place / f"counts/{chunk.stem}.parquet") == 0
    prepare(place, raw)
    train(place)
    return place


def prepare(place, raw):
    genes = place / "genes.parquet"
    assert step("genes", "--counts", sorted((place / "counts").iterdir()), "--out", genes) == 0
    for name, chunk in raw.items():
        hvg, cells = place / f"hvg/{name}.parquet", place / f"cells/{name}.parquet"
        few = ("--hvg-n-top", 60, "--filter-min-genes-per-cell", 5)
        assert step("hvg", "--chunk", chunk, "--genes", genes, "--out-hvg", hvg, "--out-cells", cells, *few) == 0
        files = ("--chunk", chunk, "--genes", genes, "--hvg", hvg, "--cells", cells)
        assert step("binning", *files, "--out", place / f"binned/{name}.h5ad") == 0
        listed = ("--list", place / f"chunks/{name}.parquet", "--cells", cells)
        assert step("split", *listed, "--split-valid-fraction", 0.2, "--out", place / f"split/{name}.parquet") == 0
        out = [
            word for s in ("train", "valid", "test") for word in (f"--out-{s}", place / f"shards/{s}/{name}.parquet")
        ]
        few = ("--hvg-n-top", 60, "--tokenize-min-genes", 3)
        files = (
            "--binned",
            place / f"binned/{name}.h5ad",
            "--split",
            place / f"split/{name}.parquet",
            "--genes",
            genes,
        )
        assert step("tokenize", *files, *few, *out) == 0


def train(place):
    every = {kind: sorted((place / kind).iterdir()) for kind in ("hvg", "cells", "split")}
    shards = {s: sorted((place / "shards" / s).iterdir()) for s in ("train", "valid", "test")}
    vocab, listed, run = place / "vocab.json", place / "shards.json", place / "run"
    assert step("vocab", "--genes", place / "genes.parquet", "--hvg", every["hvg"], "--out", vocab) == 0
    named = [word for s, files in shards.items() for word in (f"--{s}", files)]
    assert step("manifest", *named, "--out", listed) == 0
    small = ("--train-max-steps", 3, "--model-d-model", 8, "--model-n-layers", 1, "--execution-num-workers", 0)
    assert step("pretrain", "--shards", listed, "--vocab", vocab, "--out", run, "--work", place / "work", *small) == 0
    samples = place / "samples.parquet"
    files = ("--model", run / "best_model.pt", "--shards", listed, "--vocab", vocab, "--samples", samples)
    assert step("evaluate", *files, "--out", run / "evaluation", "--evaluate-ratios", 0.5) == 0
    files = ("--samples", samples, "--provenance", place / "provenance.json", "--genes", place / "genes.parquet")
    of_run = ("--metrics", run / "metrics.csv", "--model-args", run / "args.json", "--evaluation", run / "evaluation")
    per_chunk = [word for kind, found in every.items() for word in (f"--{kind}", found)]
    more = (
        "--shards",
        listed,
        "--vocab",
        vocab,
        "--settings",
        "a: <script>",
        "--benchmarks",
        place,
        "--out",
        run / "report.html",
    )
    assert step("report", *files, *per_chunk, *of_run, *more) == 0


def test_all_donors_arrive(place):
    samples = pq.read_table(place / "samples.parquet").to_pandas()
    assert set(samples["donor_id"]) == set(DONORS) and set(samples["dataset_id"]) == set(DATASETS)
    in_shards = {
        sample
        for file in (place / "shards").rglob("*.parquet")
        for sample in pq.read_table(file, columns=["sample"], partitioning=None)["sample"].to_pylist()
    }
    assert in_shards == set(samples.loc[samples["status"] != "out", "sample"])


def test_no_name_became_a_path(place):
    """Chunk files are named by digests; nothing appeared outside."""
    assert [path.name for path in place.parents[2].iterdir()] == ["a"]
    assert not list(place.parents[2].rglob("*pwned*"))
    for folder in ("chunks", "raw", "hvg", "cells", "binned", "split", "shards/train"):
        for path in (place / folder).iterdir():
            assert re.fullmatch(r"h5ad-[0-9a-f]{12}\.(parquet|h5ad)", path.name)


def test_the_page_shows_names_as_text(place):
    page = (place / "run/report.html").read_text()
    body = page[page.index("<body") :]
    for markup in ("<script>alert", "<b>bold", "<i>T</i>", "a: <script>"):
        assert markup not in body
    assert "&lt;b&gt;bold" in body and "a: &lt;script&gt;" in body
