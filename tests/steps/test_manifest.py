import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from real_chunk import write_chunk

from censusformer.cli import main
from censusformer.tokens.shards import empty_cells, read_shard, read_split, write_shard
from censusformer.tokens.vocabulary import sha256_of

SPLITS = ("train", "valid", "test")


@pytest.fixture(name="data")
def _data(tmp_path):
    """Two chunks' shards: results/x/shards/{split}/{chunk}.parquet."""
    for name, first in (("a", 0), ("b", 40)):
        chunk = write_chunk(tmp_path / name, first=first, n=40, poor=3)
        shard = {s: tmp_path / "x" / "shards" / s / f"{name}.parquet" for s in SPLITS}
        split = tmp_path / name / "split.parquet"
        options = ["--list", chunk.list, "--cells", chunk.cells, "--out", split, "--split-valid-fraction", "0.2"]
        assert main(["split", *map(str, options)]) == 0
        options = ["--binned", chunk.binned, "--split", split, "--genes", chunk.genes_file]
        options += [text for s in SPLITS for text in (f"--out-{s}", shard[s])]
        assert main(["tokenize", *map(str, options)]) == 0
    return tmp_path / "x"


def manifest(folder, order=("a", "b"), **other):
    files = {s: other.get(s, [folder / "shards" / s / f"{chunk}.parquet" for chunk in order]) for s in SPLITS}
    options = [text for s in SPLITS for text in (f"--{s}", *files[s])]
    return main(["manifest", *map(str, options), "--out", str(folder / "shards.json")])


def test_lists_every_file_with_its_rows_tokens_and_digest(data):
    assert manifest(data) == 0
    content = json.loads((data / "shards.json").read_text())
    assert (content["n_bins"], content["max_length"]) == (51, 1201)
    assert content["binning"] == {"method": "cell", "ties": "random", "seed": 0}
    assert content["vocab_sha256"] == sha256_of(f"ENSG{i:011d}" for i in range(600))
    for name, split in content["splits"].items():
        assert [file["path"] for file in split["files"]] == [f"shards/{name}/a.parquet", f"shards/{name}/b.parquet"]
        for file in split["files"]:
            cells, meta = read_shard(data / file["path"])
            assert (file["rows"], file["tokens"], file["dropped"]) == (len(cells), len(cells.genes), meta.dropped)
            assert file["sha256"] == hashlib.sha256((data / file["path"]).read_bytes()).hexdigest()
        for key in ("rows", "tokens", "dropped"):
            assert split[key] == sum(file[key] for file in split["files"])
    assert sum(split["rows"] + split["dropped"] for split in content["splits"].values()) == 80
    assert sum(split["dropped"] for split in content["splits"].values()) == 6
    assert content["splits"]["test"]["samples"] == 1


def test_the_folder_may_move_and_the_order_of_options_does_not_matter(data, tmp_path):
    assert manifest(data) == 0
    before = (data / "shards.json").read_bytes()
    assert str(tmp_path).encode() not in before
    assert manifest(data, order=("b", "a")) == 0
    assert (data / "shards.json").read_bytes() == before
    moved = data.rename(tmp_path / "moved")
    cells = read_split(moved / "shards.json", "train")
    assert len(cells) == json.loads(before)["splits"]["train"]["rows"]


def test_shards_of_another_vocabulary_are_refused_naming_both_files(data, capsys):
    path = data / "shards" / "valid" / "b.parquet"
    cells, meta = read_shard(path)
    write_shard(path, cells, replace(meta, vocab_sha256="0" * 64))
    assert manifest(data) == 2
    message = capsys.readouterr().err
    assert "valid/b.parquet" in message
    assert "train/a.parquet" in message


def test_a_sample_on_both_sides_is_refused(data, capsys):
    train = data / "shards" / "train"
    assert manifest(data, test=[train / "a.parquet"]) == 2
    assert "test and in training" in capsys.readouterr().err


@pytest.mark.parametrize(("split", "key"), [("train", "tokenize.min_genes"), ("valid", "split.valid_fraction")])
def test_a_split_that_must_not_be_empty(data, capsys, split, key):
    for path in (data / "shards" / split).glob("*.parquet"):
        meta = read_shard(path)[1]
        write_shard(path, empty_cells(np.uint16, np.uint8), meta)
    assert manifest(data) == 2
    assert key in capsys.readouterr().err


def test_no_test_sample_is_no_error(data):
    for path in (data / "shards" / "test").glob("*.parquet"):
        write_shard(path, empty_cells(np.uint16, np.uint8), read_shard(path)[1])
    assert manifest(data) == 0
    assert len(read_split(data / "shards.json", "test")) == 0


def test_a_damaged_shard_is_refused(data, capsys):
    path = data / "shards" / "test" / "a.parquet"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3] ^= 16
    path.write_bytes(raw)
    assert manifest(data) == 2
    assert "test/a.parquet" in capsys.readouterr().err
