"""Of `_chunks` and `_h5ad`: what is written is read back, by anndata too, and what anndata writes is read."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from raw_chunk import thinned, write_raw

from censusformer.errors import InputError
from censusformer.hashing import from_hex, to_hex
from censusformer.steps._chunks import open_chunk
from censusformer.steps._h5ad import Labels, compact, write_chunk


@pytest.fixture(name="written")
def _written(tmp_path):
    """A file of `write_chunk`, and its counts."""
    counts, names = thinned(50, 200)
    matrix = sp.csr_matrix(counts)
    labels = Labels(np.array([0, 1, -1, 0, 1] * 10, np.int32), ("a", "b"))
    obs = {"sample": labels, "soma_joinid": np.arange(50), "is_primary_data": np.arange(50) % 2 == 0}
    obs["text"] = np.array([f"é{i}" for i in range(50)], dtype=object)
    write_chunk(
        tmp_path / "c.h5ad",
        (matrix.indptr.astype(np.int64), compact(matrix.indices), compact(matrix.data)),
        obs,
        {"feature_name": np.asarray(names, dtype=object)},
        obs_names=to_hex(np.arange(50, dtype=np.uint64)),
        var_names=[f"E{i}" for i in range(200)],
    )
    return tmp_path / "c.h5ad", counts


def test_anndata_reads_it(written):
    path, counts = written
    data = ad.read_h5ad(path)
    assert np.array_equal(data.X.toarray(), counts)
    assert data.X.dtype == np.uint16
    assert data.obs["sample"].isna().sum() == 10
    assert data.obs["sample"].cat.categories.tolist() == ["a", "b"]
    assert data.obs["is_primary_data"].dtype == bool
    assert data.obs["text"].tolist()[3] == "é3"
    assert data.var_names[7] == "E7"
    part = data[3:9, [5, 1]].copy()  # its small index types work in scipy, too
    assert np.array_equal(part.X.toarray(), counts[3:9][:, [5, 1]])


def test_it_is_read_back(written):
    path, counts = written
    with open_chunk(path) as chunk:
        blocks = list(chunk.rows(500))
        assert len(blocks) > 2
        assert [block.first for block in blocks] == np.cumsum([0, *map(len, blocks[:-1])]).tolist()
        assert np.array_equal(np.concatenate([block.data for block in blocks]), sp.csr_matrix(counts).data)
        assert chunk.labels("sample").texts()[:5].tolist() == ["a", "b", "unknown", "a", "b"]
        assert chunk.labels("absent", "x").texts().tolist() == ["x"] * 50
        assert chunk.cell.tolist() == list(range(50))
        assert chunk.numbers("soma_joinid").tolist() == list(range(50))
        with pytest.raises(InputError, match="no column 'absent'"):
            chunk.labels("absent")


def test_what_anndata_writes_is_read(tmp_path):
    counts, names = thinned(9, 100)
    columns = {
        "plain": [f"t{i}" for i in range(9)],
        "nullable": pd.array(["x", None, "y"] * 3, dtype="string"),
        "numbers": pd.Categorical([3, 4, 5] * 3),
    }
    with ad.settings.override(allow_write_nullable_strings=True):
        path = write_raw(tmp_path / "c.h5ad", counts, names, names, ["d:a"] * 9, **columns)
    with open_chunk(path) as chunk:
        assert chunk.labels("plain").texts().tolist() == columns["plain"]
        assert chunk.labels("nullable").texts().tolist() == ["x", "unknown", "y"] * 3
        assert chunk.labels("numbers").texts().tolist() == ["3", "4", "5"] * 3
        (block,) = chunk.rows()
        assert block.data.dtype == np.uint32
        assert np.array_equal(sp.csr_matrix((block.data, block.indices, block.indptr)).toarray(), counts)


def test_a_row_longer_than_a_block_is_whole(written):
    path, counts = written
    with open_chunk(path) as chunk:
        assert [len(block) for block in chunk.rows(1)] == [1] * 50
        assert sum(len(block.data) for block in chunk.rows(1)) == np.count_nonzero(counts)


def test_same_input_same_bytes(written, tmp_path):
    counts = written[1]
    matrix = sp.csr_matrix(counts)
    for name in ("x", "y"):
        write_chunk(
            tmp_path / name,
            (matrix.indptr, matrix.indices, matrix.data),
            {"a": Labels.of(["q", "p"] * 25)},
            {},
            obs_names=to_hex(np.arange(50)),
            var_names=[f"E{i}" for i in range(200)],
        )
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


def test_columns_of_another_length_are_a_bug(tmp_path):
    empty = (np.zeros(3, np.int64), np.empty(0, np.uint16), np.empty(0, np.uint16))
    with pytest.raises(ValueError, match=r"obs\.a has 3 values for 2 rows"):
        write_chunk(tmp_path / "c.h5ad", empty, {"a": np.arange(3)}, {}, obs_names=["0", "1"], var_names=["E"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["dense", "csc"])
def test_other_matrices_are_refused(tmp_path, form):
    counts, names = thinned(9, 100)
    data = ad.AnnData(counts.astype(np.float32) if form == "dense" else sp.csc_matrix(counts))
    data.var_names = names
    data.write_h5ad(tmp_path / "c.h5ad")
    with pytest.raises(InputError, match="no CSR matrix"), open_chunk(tmp_path / "c.h5ad"):
        pass


def test_keys_keep_all_their_bits():
    assert from_hex(to_hex(np.array([2**64 - 1, 2**53 + 1], np.uint64))).tolist() == [2**64 - 1, 2**53 + 1]


@pytest.mark.parametrize("longest", [3, 64, 65])
def test_texts_of_any_length_are_read_back(tmp_path, longest):
    texts = np.array(["", "é", "x" * longest], dtype=object)
    matrix = sp.csr_matrix(np.ones((3, 1), np.uint16))
    csr = matrix.indptr, matrix.indices, matrix.data
    names = to_hex(np.arange(3, dtype=np.uint64))
    write_chunk(tmp_path / "c.h5ad", csr, {"text": texts}, {}, obs_names=names, var_names=["E1"])
    assert ad.read_h5ad(tmp_path / "c.h5ad").obs["text"].tolist() == texts.tolist()
    with open_chunk(tmp_path / "c.h5ad") as chunk:
        assert chunk.labels("text").texts().tolist() == texts.tolist()
        assert chunk.feature_id.tolist() == ["E1"]


def test_tidy_labels_are_those_of_the_texts():
    labels = Labels(np.array([3, -1, 0, 3, 4], np.int32), ("b", "x", "c", "a", "unknown"))
    tidy, plain = labels.tidy(), Labels.of(labels.texts())
    assert tidy.names == plain.names == ("a", "b", "unknown")
    assert tidy.codes.tolist() == plain.codes.tolist()
    assert Labels(np.empty(0, np.int32), ("a",)).tidy().names == ()
