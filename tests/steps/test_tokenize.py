import anndata as ad
import numpy as np
import pyarrow.parquet as pq
import pytest
from real_chunk import write_chunk

from censusformer.cli import main
from censusformer.hashing import draw
from censusformer.tokens.shards import ShardMeta, read_shard
from censusformer.tokens.vocabulary import sha256_of

SPLITS = ("train", "valid", "test")


def tokenize(chunk, out, *options):
    files = ["--binned", chunk.binned, "--split", chunk.folder / "split.parquet", "--genes", chunk.genes_file]
    outs = [text for name in SPLITS for text in (f"--out-{name}", out / f"{name}.parquet")]
    return main(["tokenize", *map(str, files), *map(str, outs), *options])


@pytest.fixture(name="chunk", scope="module")
def _chunk(tmp_path_factory):
    chunk = write_chunk(tmp_path_factory.mktemp("tokenize"), poor=6)
    options = ["--list", chunk.list, "--cells", chunk.cells, "--out", chunk.folder / "split.parquet"]
    assert main(["split", *map(str, options), "--split-valid-fraction", "0.2"]) == 0
    assert tokenize(chunk, chunk.folder) == 0
    return chunk


def shards(chunk):
    return {name: read_shard(chunk.folder / f"{name}.parquet", sha256_of(chunk.genes)) for name in SPLITS}


def test_every_cell_stands_once_with_its_bins_or_is_counted_as_dropped(chunk):
    split = dict(pq.read_table(chunk.folder / "split.parquet").to_pandas().itertuples(index=False))
    row_of = {int(cell): row for row, cell in enumerate(chunk.cell)}
    seen = []
    for name, (cells, meta) in shards(chunk).items():
        assert meta.dropped == sum(split[int(cell)] == name for cell in chunk.cell[:6])
        for i, cell in enumerate(cells.cell.tolist()):
            row, tokens = row_of[cell], slice(*cells.offsets[i : i + 2])
            assert split[cell] == name
            assert cells.genes[tokens].tolist() == np.flatnonzero(chunk.bins[row]).tolist()
            assert cells.values[tokens].tolist() == chunk.bins[row][chunk.bins[row] > 0].tolist()
            assert cells.tie_var[i] == chunk.tie_var[row]
            assert cells.sample.labels()[i] == chunk.sample[row]
            assert cells.dataset_id.labels()[i] == chunk.sample[row][0]
            seen.append(cell)
    assert sorted(seen) == sorted(chunk.cell[6:].tolist())


def test_a_missing_label_reads_unknown(chunk):
    labels = [label for cells, _ in shards(chunk).values() for label in cells.cell_type.labels()]
    assert {"T cell", "unknown"} == set(labels)
    assert labels.count("unknown") == 37


def test_metadata_and_dtypes(chunk):
    for cells, meta in shards(chunk).values():
        assert meta == ShardMeta(51, 1201, sha256_of(chunk.genes), meta.dropped)
        assert (cells.genes.dtype, cells.values.dtype, cells.tie_var.dtype) == (np.uint16, np.uint8, np.float32)


def test_rows_are_shuffled_by_seed_alone(chunk, tmp_path):
    cells = shards(chunk)["train"][0].cell
    assert cells.tolist() == sorted(cells.tolist(), key=lambda cell: draw(0, cell)[0])
    assert tokenize(chunk, tmp_path, "--tokenize-seed", "1") == 0
    other = read_shard(tmp_path / "train.parquet")[0].cell
    assert other.tolist() != cells.tolist()
    assert sorted(other.tolist()) == sorted(cells.tolist())


def test_neither_the_order_of_cells_nor_of_a_rows_genes_changes_a_byte(chunk, tmp_path):
    data = ad.read_h5ad(chunk.binned)[::-1].copy()
    for row in range(data.n_obs):
        part = slice(*data.X.indptr[row : row + 2])
        data.X.indices[part], data.X.data[part] = data.X.indices[part][::-1].copy(), data.X.data[part][::-1].copy()
    other = type(chunk)(tmp_path, chunk.cell, chunk.bins, chunk.genes, chunk.sample, chunk.tie_var)
    data.write_h5ad(other.binned)
    for path in (chunk.folder / "split.parquet", chunk.genes_file):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert tokenize(other, tmp_path) == 0
    for name in SPLITS:
        assert (tmp_path / f"{name}.parquet").read_bytes() == (chunk.folder / f"{name}.parquet").read_bytes()


def test_a_split_without_cells_is_a_file_without_rows(tmp_path):
    chunk = write_chunk(tmp_path, n=20, test=())
    assert (
        main(
            ["split", "--list", str(chunk.list), "--cells", str(chunk.cells), "--out", str(tmp_path / "split.parquet")]
        )
        == 0
    )
    assert tokenize(chunk, tmp_path) == 0
    cells, meta = read_shard(tmp_path / "test.parquet")
    assert (len(cells), meta.dropped) == (0, 0)
    assert pq.read_table(tmp_path / "test.parquet").to_pandas().shape == (0, 7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tokenize-min-genes", "1"], "tokenize.min_genes"),
        (["--binning-n-bins", "20"], "binning.n_bins"),
        (["--hvg-n-top", "50"], "hvg.n_top"),
    ],
)
def test_settings_that_do_not_fit_are_refused(chunk, tmp_path, capsys, options, message):
    assert tokenize(chunk, tmp_path, *options) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_files_that_do_not_fit_are_refused(chunk, tmp_path, capsys):
    other = write_chunk(tmp_path / "o", first=10, n=20)
    (tmp_path / "o" / "split.parquet").write_bytes((chunk.folder / "split.parquet").read_bytes())
    cells = other.cell[~np.isin(other.cell, chunk.cell)]
    assert len(cells)
    assert tokenize(other, tmp_path) == 2
    assert "no split" in capsys.readouterr().err
    genes = pq.read_table(other.genes_file)
    pq.write_table(genes.slice(1), other.genes_file)
    assert tokenize(other, tmp_path) == 2
    assert "other genes" in capsys.readouterr().err
