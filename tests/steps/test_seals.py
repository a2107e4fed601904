"""A flipped bit or a cut in a file between steps is seen, wherever it lies; readers of other programs see no seal."""

import json

import anndata
import hdf5plugin  # noqa: F401 - lets h5py read zstd
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from censusformer.errors import InputError
from censusformer.files import with_checksum
from censusformer.steps._chunks import open_chunk
from censusformer.steps._h5ad import write_chunk
from censusformer.steps._tables import read_table, write_table
from censusformer.tokens.shards import read_manifest
from censusformer.tokens.vocabulary import Vocabulary

TABLE = pa.table({"cell": pa.array(range(40), pa.uint64()), "sample": ["a", "ü"] * 20}).replace_schema_metadata(
    {"refits": "{}"}
)


def read_chunk(path):
    with open_chunk(path) as chunk:
        rows = list(chunk.rows())
        return chunk.feature_id.tolist(), chunk.labels("sample").texts().tolist(), rows[0].data.tolist()


def write_small_chunk(path):
    csr = (np.array([0, 2, 3]), np.array([0, 1, 1]), np.array([1, 2, 3], np.uint16))
    columns = {"sample": np.array(["a", "b"], object)}
    write_chunk(path, csr, columns, {}, obs_names=["0" * 16, "1" * 16], var_names=["g", "h"])


def write_small_vocabulary(path):
    Vocabulary(("ENSG1", "ENSG2"), ("A", "ü"), (3, 1)).write(path)


def read_vocabulary(path):
    found = Vocabulary.read(path)
    return found.genes, found.names, found.n_samples


def write_small_list(path):
    """As `manifest` writes it."""
    meta = {"vocab_sha256": "0" * 64, "n_bins": 51, "max_length": 61}
    splits = {name: {"rows": 3, "files": [{"path": f"{name}/a.parquet"}]} for name in ("train", "valid", "test")}
    path.write_text(json.dumps(with_checksum({**meta, "splits": splits}), indent=1))


def read_list(path):
    content = read_manifest(path)
    return [content[key] for key in ("vocab_sha256", "n_bins", "max_length", "splits")]


KINDS = {
    "vocab.json": (write_small_vocabulary, read_vocabulary),
    "shards.json": (write_small_list, read_list),
    "table.parquet": (lambda path: write_table(path, TABLE), lambda path: read_table(path, TABLE.column_names)),
    "chunk.h5ad": (write_small_chunk, read_chunk),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("seals")


@pytest.mark.parametrize("name", KINDS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_damage_is_seen(folder, name, data):
    write, read = KINDS[name]
    path = folder / name
    write(path)
    expected, content = read(path), bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[place:]
    path.write_bytes(content)
    try:
        assert read(path) == expected  # the seal alone was hit
    except InputError as error:
        assert str(path) in str(error)


def test_others_read_the_files(folder):
    write_table(folder / "table.parquet", TABLE)
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "table.parquet"), TABLE.to_pandas())
    write_small_chunk(folder / "chunk.h5ad")
    assert anndata.read_h5ad(folder / "chunk.h5ad").X.toarray().tolist() == [[1, 2], [0, 3]]


def test_a_file_without_a_seal_is_read(folder):
    TABLE.to_pandas().to_parquet(folder / "plain.parquet")
    assert read_table(folder / "plain.parquet", ["cell"])["cell"].to_pylist() == list(range(40))
