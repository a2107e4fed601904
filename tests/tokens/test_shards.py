import hashlib
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from censusformer.errors import InputError
from censusformer.tokens.shards import (
    ShardMeta,
    empty_cells,
    file_sha256,
    gene_dtype,
    read_shard,
    read_split,
    value_dtype,
    write_shard,
)
from censusformer.tokens.vocabulary import Vocabulary

META = ShardMeta(n_bins=51, max_length=1201, vocab_sha256="ab" * 32, dropped=2)


def assert_same(one, two):
    for name in ("cell", "offsets", "genes", "values", "tie_var"):
        first, second = getattr(one, name), getattr(two, name)
        assert first.dtype == second.dtype
        assert first.tolist() == second.tolist()
    for name in ("sample", "dataset_id", "cell_type"):
        assert getattr(one, name).labels().tolist() == getattr(two, name).labels().tolist()


@pytest.fixture(name="shard")
def _shard(tmp_path, make_cells):
    path = tmp_path / "a.parquet"
    write_shard(path, make_cells([20, 3, 0, 41]), META)
    return path


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 40), max_size=12),
    st.sampled_from([np.uint16, np.uint32]),
    st.sampled_from([np.uint8, np.uint16]),
)
def test_round_trip(tmp_path_factory, make_cells, lengths, genes, values):
    cells = make_cells(lengths, gene_dtype=genes, value_dtype=values)
    folder = tmp_path_factory.mktemp("shards")
    write_shard(folder / "a.parquet", cells, META)
    write_shard(folder / "b.parquet", cells, META)
    read, meta = read_shard(folder / "a.parquet", META.vocab_sha256)
    assert meta == META
    assert_same(read, cells)
    assert (folder / "a.parquet").read_bytes() == (folder / "b.parquet").read_bytes()


def test_schema_is_the_contract(shard):
    file = pq.ParquetFile(shard)
    text = pa.dictionary(pa.int32(), pa.string())
    types = {field.name: field.type for field in file.schema_arrow}
    assert types["cell"] == pa.uint64()
    assert {types[name] for name in ("sample", "dataset_id", "cell_type")} == {text}
    assert types["genes"] == pa.list_(pa.field("element", pa.uint16(), nullable=False))
    assert types["values"] == pa.list_(pa.field("element", pa.uint8(), nullable=False))
    assert types["tie_var"] == pa.float32()
    assert not any(field.nullable for field in file.schema_arrow)
    for i in range(file.metadata.num_columns):
        column = file.metadata.row_group(0).column(i)
        assert column.compression == "ZSTD"
        if column.path_in_schema.startswith(("genes", "values")):
            assert "BYTE_STREAM_SPLIT" in column.encodings
    about = json.loads(file.schema_arrow.metadata[b"censusformer"])
    assert set(about) == {"schema_version", "n_bins", "max_length", "vocab_sha256", "dropped", "checksum"}


def test_pandas_reads_it_without_our_code(shard, make_cells):
    frame, cells = pq.read_table(shard).to_pandas(), make_cells([20, 3, 0, 41])
    assert frame["cell"].dtype == np.uint64
    assert frame["cell"].tolist() == cells.cell.tolist()
    assert frame["sample"].astype(str).tolist() == cells.sample.labels().tolist()
    assert np.concatenate(list(frame["genes"])).tolist() == cells.genes.tolist()


def test_rows_in_several_row_groups_are_read(tmp_path, make_cells, shard):
    path = tmp_path / "groups.parquet"
    pq.write_table(pq.read_table(shard), path, row_group_size=1)
    assert_same(read_shard(path)[0], make_cells([20, 3, 0, 41]))


def test_dtypes_are_the_smallest_that_hold_the_ids():
    assert [gene_dtype(n) for n in (65534, 65535)] == [np.uint16, np.uint32]
    assert [value_dtype(n) for n in (51, 256, 257)] == [np.uint8, np.uint8, np.uint16]


def test_another_vocabulary_is_refused_naming_both_files(shard, tmp_path):
    vocab = Vocabulary(("g1", "g2"), ("a", "b"), (1, 1))
    vocab.write(tmp_path / "vocab.json")
    with pytest.raises(InputError, match=r"a\.parquet.*another vocabulary.*vocab\.json"):
        read_shard(shard, Vocabulary.read(tmp_path / "vocab.json"))
    with pytest.raises(InputError, match=r"a\.parquet.*another vocabulary"):
        read_shard(shard, vocab.sha256)


def read_or_error(path):
    try:
        return read_shard(path)
    except InputError as error:
        return error


def test_every_flipped_bit_is_refused_or_harmless(shard):
    """Flips in bytes that carry nothing (padding, statistics, the writer's name) leave what is read unchanged."""
    good, raw = read_shard(shard), shard.read_bytes()
    refused = 0
    for position in range(4, len(raw), 5):
        damaged = bytearray(raw)
        damaged[position] ^= 1 << (position % 8)
        shard.write_bytes(damaged)
        found = read_or_error(shard)
        if isinstance(found, InputError):
            assert "delete it and run snakemake again" in str(found)
            assert str(shard) in str(found)
            refused += 1
        else:
            assert found[1] == good[1]
            assert_same(found[0], good[0])
    assert refused > len(raw) / 5 * 0.3


@pytest.mark.parametrize("keep", [0, 4, 100, -1, -8, -200])
def test_a_truncated_file_is_refused(shard, keep):
    shard.write_bytes(shard.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"a\.parquet.*delete it and run snakemake again"):
        read_shard(shard)


def test_a_changed_value_is_refused_though_the_file_is_sound(shard):
    table = pq.read_table(shard)
    changed = pa.array((table["tie_var"].to_numpy() + 1).astype(np.float32))
    table = table.set_column(table.schema.get_field_index("tie_var"), table.schema.field("tie_var"), changed)
    pq.write_table(table, shard)
    with pytest.raises(InputError, match=r"checksum.*delete it"):
        read_shard(shard)


def test_a_changed_bin_count_in_the_metadata_is_refused(shard):
    table = pq.read_table(shard)
    about = json.loads(table.schema.metadata[b"censusformer"]) | {"n_bins": 52}
    pq.write_table(table.replace_schema_metadata({b"censusformer": json.dumps(about)}), shard)
    with pytest.raises(InputError, match="checksum"):
        read_shard(shard)


@pytest.mark.parametrize("what", ["other_parquet", "text", "folder_missing", "version"])
def test_other_files_are_refused(shard, what):
    if what == "other_parquet":
        pq.write_table(pa.table({"cell": [1]}), shard)
    elif what == "text":
        shard.write_text("no parquet")
    elif what == "version":
        table = pq.read_table(shard)
        about = json.loads(table.schema.metadata[b"censusformer"]) | {"schema_version": 99}
        pq.write_table(table.replace_schema_metadata({b"censusformer": json.dumps(about)}), shard)
    else:
        shard.unlink()
    with pytest.raises(InputError, match=r"a\.parquet.*run snakemake again"):
        read_shard(shard)


def manifest_of(folder, parts, vocab_sha256=META.vocab_sha256):
    """Shards and the list of them, as step `manifest` writes it."""
    files = []
    for i, cells in enumerate(parts):
        write_shard(folder / f"shards/train/{i}.parquet", cells, replace(META, vocab_sha256=vocab_sha256))
        path = folder / f"shards/train/{i}.parquet"
        files.append({"path": f"shards/train/{i}.parquet", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
    splits = {"train": {"files": files}, "valid": {"files": []}, "test": {"files": []}}
    content = {"n_bins": 51, "max_length": 1201, "vocab_sha256": vocab_sha256, "splits": splits}
    (folder / "shards.json").write_text(json.dumps(content))
    return folder / "shards.json"


def test_a_split_is_its_files_in_order(tmp_path, make_cells):
    parts = [make_cells([5, 6], seed=1), make_cells([], seed=2), make_cells([2, 3, 4], seed=3)]
    manifest = manifest_of(tmp_path, parts)
    cells = read_split(manifest, "train", META.vocab_sha256)
    assert cells.cell.tolist() == [key for part in parts for key in part.cell.tolist()]
    assert cells.genes.tolist() == [gene for part in parts for gene in part.genes.tolist()]
    assert len(read_split(manifest, "test")) == 0


def test_a_shard_that_is_not_the_listed_one_is_refused(tmp_path, make_cells):
    manifest = manifest_of(tmp_path, [make_cells([5, 6])])
    write_shard(tmp_path / "shards/train/0.parquet", make_cells([5, 6], seed=9), META)
    with pytest.raises(InputError, match=r"0\.parquet is not the file that .*shards\.json"):
        read_split(manifest, "train")
    (tmp_path / "shards/train/0.parquet").unlink()
    with pytest.raises(InputError, match=r"0\.parquet.*missing"):
        read_split(manifest, "train")


def test_a_list_of_another_vocabulary_is_refused(tmp_path, make_cells):
    manifest = manifest_of(tmp_path, [make_cells([5])], vocab_sha256="cd" * 32)
    with pytest.raises(InputError, match=r"shards\.json.*another vocabulary"):
        read_split(manifest, "train", META.vocab_sha256)
    manifest.write_text(manifest.read_text()[:-9])
    with pytest.raises(InputError, match=r"shards\.json.*delete it"):
        read_split(manifest, "train")


def test_digest_of_a_file(shard):
    assert file_sha256(shard) == hashlib.sha256(shard.read_bytes()).hexdigest()


def test_empty_cells_keep_their_dtypes(tmp_path):
    write_shard(tmp_path / "e.parquet", empty_cells(np.uint32, np.uint16), META)
    cells, meta = read_shard(tmp_path / "e.parquet")
    assert (len(cells), cells.genes.dtype, cells.values.dtype, meta) == (0, np.uint32, np.uint16, META)
