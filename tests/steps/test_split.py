import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_chunk import write_chunk

from censusformer.cli import main
from censusformer.hashing import draw, word
from censusformer.steps.split import assign

KEYS = draw(np.arange(40_000))
NEVER = np.zeros(len(KEYS), bool)


@pytest.fixture(name="chunk", scope="module")
def _chunk(tmp_path_factory):
    return write_chunk(tmp_path_factory.mktemp("split"))


def split(chunk, out, *options):
    code = main(["split", "--list", str(chunk.list), "--cells", str(chunk.cells), "--out", str(out), *options])
    return pq.read_table(out).to_pandas() if code == 0 else code


def test_cells_of_test_samples_are_test_and_no_others(chunk, tmp_path):
    table = split(chunk, tmp_path / "s.parquet", "--split-valid-fraction", "0.2")
    assert table["cell"].tolist() == chunk.cell.tolist()
    assert ((table["split"] == "test") == (chunk.sample == "e:test")).all()
    assert set(table["split"]) == {"train", "valid", "test"}


def test_validation_is_the_hash_below_the_fraction(chunk, tmp_path):
    table = split(chunk, tmp_path / "s.parquet", "--split-valid-fraction", "0.2", "--split-seed", "7")
    for cell, name, sample in zip(chunk.cell, table["split"], chunk.sample, strict=True):
        if sample != "e:test":
            assert (name == "valid") == (int(draw(7, cell)[0]) < 0.2 * 2**64)


def test_by_sample_keeps_samples_whole(chunk, tmp_path):
    table = split(chunk, tmp_path / "s.parquet", "--split-valid-fraction", "0.4", "--split-by", "sample")
    for sample in ("d:a", "d:b", "e:c"):
        expected = "valid" if int(draw(0, word(sample))[0]) < 0.4 * 2**64 else "train"
        assert set(table["split"][chunk.sample == sample]) == {expected}


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 0.5), st.integers(0, 2**32))
def test_share_of_validation(fraction, seed):
    found = assign(KEYS, NEVER, KEYS, fraction=fraction, seed=seed)
    deviation = (fraction * (1 - fraction) / len(KEYS)) ** 0.5
    assert abs(np.mean(found == 1) - fraction) < 5 * deviation


def test_growth_moves_no_cell_and_a_larger_fraction_keeps_validation():
    small, large = (assign(KEYS, NEVER, KEYS, fraction=fraction, seed=1) for fraction in (0.03, 0.1))
    part = assign(KEYS[::3], NEVER[::3], KEYS[::3], fraction=0.03, seed=1)
    assert part.tolist() == small[::3].tolist()
    assert (large[small == 1] == 1).all()


def test_same_bytes_twice(chunk, tmp_path):
    for name in "ab":
        split(chunk, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_fraction_out_of_range_is_refused(chunk, tmp_path, caplog):
    assert split(chunk, tmp_path / "s.parquet", "--split-valid-fraction", "1.5") == 2


def test_a_kept_cell_that_is_not_listed_is_refused(chunk, tmp_path, capsys):
    other = tmp_path / "list.parquet"
    pq.write_table(pq.read_table(chunk.list).slice(1), other)
    code = main(["split", "--list", str(other), "--cells", str(chunk.cells), "--out", str(tmp_path / "s.parquet")])
    assert code == 2
    assert f"{chunk.cell[-1]:016x}" in capsys.readouterr().err


def test_a_chunk_without_kept_cells(chunk, tmp_path):
    empty = tmp_path / "cells.parquet"
    pq.write_table(pq.read_table(chunk.cells).slice(0, 0), empty)
    code = main(["split", "--list", str(chunk.list), "--cells", str(empty), "--out", str(tmp_path / "s.parquet")])
    assert code == 0
    assert pq.read_table(tmp_path / "s.parquet").num_rows == 0
    assert pq.read_schema(tmp_path / "s.parquet").field("cell").type == pa.uint64()


def test_a_damaged_list_is_made_anew_with_its_folder(tmp_path, capsys):
    """One list deleted by itself would take its cells out of everything that follows."""
    (tmp_path / "chunks").mkdir()
    (tmp_path / "chunks/one.parquet").write_bytes(b"PAR1 no more")
    files = ["--list", str(tmp_path / "chunks/one.parquet"), "--cells", "cells.parquet", "--out", "split.parquet"]
    assert main(["split", *files]) == 2
    assert f"delete {tmp_path / 'chunks'} and run again" in capsys.readouterr().err
