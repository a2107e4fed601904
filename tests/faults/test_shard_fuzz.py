"""Whatever stands in place of a shard: the loader reads what was written, or refuses it in words."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_shards import N_BINS, expressed, vocabulary_of, write_data

from censusformer.errors import InputError
from censusformer.tokens.shards import read_shard, read_split

CASES = int(os.environ.get("FUZZ_CASES", "100"))
FUZZ = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
VOCABULARY = vocabulary_of(80)


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    """A shard of 60 cells and its list."""
    folder = tmp_path_factory.mktemp("shards")
    splits = {"train": expressed(60), "valid": expressed(5, seed=1), "test": expressed(5, seed=2)}
    write_data(folder, splits, VOCABULARY)
    path = folder / "train.parquet"
    return path, path.read_bytes()


def same(found, expected):
    arrays = all(
        np.array_equal(getattr(found, name), getattr(expected, name))
        for name in ("cell", "offsets", "genes", "values", "tie_var")
    )
    return arrays and all(
        np.array_equal(getattr(found, name).labels(), getattr(expected, name).labels())
        for name in ("sample", "dataset_id", "cell_type")
    )


def read_or_refuse(path, content, expected):
    """Read directly, and as training does, by the list."""
    path.write_bytes(content)
    for read in (
        lambda: read_shard(path, VOCABULARY)[0],
        lambda: read_split(path.parent / "shards.json", "train", VOCABULARY),
    ):
        try:
            assert same(read(), expected)
        except InputError as error:
            assert str(path) in str(error)


@given(data=st.data())
@FUZZ
def test_flipped_bits_and_cuts(shard, data):
    path, good = shard
    content = bytearray(good)
    for place in data.draw(st.lists(st.integers(0, len(good) - 1), min_size=1, max_size=4)):
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(good) - 1)) :]
    read_or_refuse(path, bytes(content), expressed(60))


@given(content=st.binary(max_size=400), framed=st.booleans())
@FUZZ
def test_random_bytes(shard, content, framed):
    path, _ = shard
    if framed:
        content = b"PAR1" + content + len(content).to_bytes(4, "little") + b"PAR1"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"train\.parquet"):
        read_shard(path)


COLUMNS = st.sampled_from(["cell", "sample", "dataset_id", "cell_type", "genes", "values", "tie_var"])
OTHERS = st.sampled_from(
    [pa.array(["x"] * 60), pa.array([None] * 60, pa.int64()), pa.array([1.5] * 60), pa.array([[1, -2]] * 60),
     pa.array([[None]] * 60, pa.list_(pa.int32())), pa.array([{"a": 1}] * 60), pa.array([b"x"] * 60)]
)  # fmt: skip


@given(column=COLUMNS, other=st.none() | OTHERS, keep=st.booleans())
@FUZZ
def test_wrong_columns_and_types(shard, column, other, keep):
    """A column that is missing or holds something else; the shard's own checksum stands, or is gone."""
    path, good = shard
    path.write_bytes(good)
    table = pq.read_table(path, partitioning=None)
    place = table.schema.get_field_index(column)
    changed = table.drop_columns([column]) if other is None else table.set_column(place, column, other)
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata if keep else None), path)
    with pytest.raises(InputError, match=r"train\.parquet"):
        read_shard(path)


def test_a_bin_over_n_bins_has_no_valid_checksum(shard):
    path, good = shard
    path.write_bytes(good)
    cells, meta = read_shard(path, VOCABULARY)
    assert meta.n_bins == N_BINS and int(cells.values.max()) < N_BINS
