"""Shards: Parquet files of tokenised cells, one a chunk and split, that carry what a reader must check.

Lists and their items are NOT NULL and read through offsets and values, never as Python lists.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from censusformer.errors import InputError
from censusformer.files import atomic, check_checksum
from censusformer.tokens.cells import Categories, Cells, concat
from censusformer.tokens.vocabulary import Vocabulary

SCHEMA_VERSION = 1
LABELS = ("sample", "dataset_id", "cell_type")
_KEY = b"censusformer"
_AGAIN = "delete it and run snakemake again"


@dataclass(frozen=True)
class ShardMeta:
    """What a shard's file says about itself.

    Parameters
    ----------
    n_bins
        Bins of expression with the zero: stored values run from 1 to n_bins-1.
    max_length
        The most tokens that a cell can have, `<cls>` included.
    vocab_sha256
        The digest of the vocabulary that gene ids refer to.
    dropped
        Cells of this chunk and split that had too few tokens and are not here.
    """

    n_bins: int
    max_length: int
    vocab_sha256: str
    dropped: int = 0


def gene_dtype(n_genes: int) -> type:
    """Return the smallest dtype of shards that holds every token id, `<cls>` and `<pad>` included."""
    return np.uint16 if n_genes + 2 <= 2**16 else np.uint32


def value_dtype(n_bins: int) -> type:
    """Return the smallest dtype of shards that holds every bin."""
    return np.uint8 if n_bins <= 2**8 else np.uint16


def write_shard(path: str | Path, cells: Cells, meta: ShardMeta) -> None:
    """Write cells in their order; the same cells give the same bytes."""
    cells = _tidy(cells)
    about = {"schema_version": SCHEMA_VERSION, **asdict(meta), "checksum": _checksum(cells, meta)}
    table = _table(cells).replace_schema_metadata({_KEY: json.dumps(about, sort_keys=True)})
    with atomic(path) as temporary:
        pq.write_table(
            table,
            temporary,
            compression="zstd",
            compression_level=3,
            use_dictionary=list(LABELS),
            column_encoding={f"{name}.list.element": "BYTE_STREAM_SPLIT" for name in ("genes", "values")}
            | {"cell": "PLAIN", "tie_var": "BYTE_STREAM_SPLIT"},
            write_page_checksum=True,
        )


def read_shard(path: str | Path, vocab: Vocabulary | str | None = None) -> tuple[Cells, ShardMeta]:
    """Read and check one shard.

    Parameters
    ----------
    path
        The Parquet file.
    vocab
        The vocabulary, or its SHA-256, that the reader works with; None accepts any.

    Raises
    ------
    InputError
        Where the file is missing or damaged, of another schema version or of another vocabulary.
    """
    if not Path(path).is_file():
        raise InputError(f"{path} is missing: run snakemake again")
    try:
        table = pq.read_table(path, page_checksum_verification=True, partitioning=None)
        about = json.loads(table.schema.metadata[_KEY])
        version, checksum = about.pop("schema_version"), about.pop("checksum")
        meta = ShardMeta(**about) if version == SCHEMA_VERSION else None
        cells = _cells(table)
        intact = meta is None or _checksum(cells, meta) == checksum
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        if getattr(error, "errno", None) is not None:  # the disk's or the system's trouble, not the content's
            raise
        raise InputError(f"{path} is damaged or no shard ({_first_line(error)}): {_AGAIN}") from error
    if meta is None:
        raise InputError(f"{path} has schema version {version}, this program reads {SCHEMA_VERSION}: {_AGAIN}")
    if not intact:
        raise InputError(f"{path} is damaged (its checksum does not fit its columns): {_AGAIN}")
    _refuse_other_vocabulary(path, meta.vocab_sha256, vocab)
    return cells, meta


def read_split(manifest: str | Path, split: str, vocab: Vocabulary | str | None = None) -> Cells:
    """All cells of one split, in the order of `shards.json`.

    Raises
    ------
    InputError
        Where the manifest is damaged or lists another vocabulary, or a shard is not the one that it lists.
    """
    manifest = Path(manifest)
    content = read_manifest(manifest)
    _refuse_other_vocabulary(manifest, content["vocab_sha256"], vocab)
    files = content["splits"][split]["files"]
    if not files:
        return empty_cells(np.uint16, np.uint8)
    return concat([read_listed(manifest, file, content["vocab_sha256"] if vocab is None else vocab) for file in files])


def read_listed(manifest: Path, file: dict, vocab: Vocabulary | str) -> Cells:
    """Read one of the files that `shards.json` lists, and check that it is that file.

    Raises
    ------
    InputError
        Where it is missing, damaged or another one.
    """
    path = manifest.parent / file["path"]
    if not path.is_file():
        raise InputError(f"{path}, which {manifest} lists, is missing: run snakemake again")
    cells, _ = read_shard(path, vocab)
    if file_sha256(path) != file["sha256"]:
        raise InputError(f"{path} is not the file that {manifest} lists: delete {path} and run snakemake again")
    return cells


def read_manifest(path: str | Path) -> dict:
    """Read `shards.json`, as step `manifest` writes it."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        check_checksum(content)
        missing = {"vocab_sha256", "n_bins", "max_length", "splits"} - set(content)
        missing |= {name for name in ("train", "valid", "test") if "files" not in content["splits"][name]}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no list of shards ({error!r}): {_AGAIN}") from error
    if missing:
        raise InputError(f"{path} is no list of shards (without {', '.join(sorted(missing))}): {_AGAIN}")
    return content


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def empty_cells(genes: type, values: type) -> Cells:
    """No cells, with these dtypes of gene ids and bins."""
    none = Categories(np.empty(0, np.int32), ())
    keys, offsets, variance = np.empty(0, np.uint64), np.zeros(1, np.int64), np.empty(0, np.float32)
    return Cells(keys, offsets, np.empty(0, genes), np.empty(0, values), variance, none, none, none)


def _refuse_other_vocabulary(path: str | Path, found: str, vocab: Vocabulary | str | None) -> None:
    wanted = vocab.sha256 if isinstance(vocab, Vocabulary) else vocab
    if wanted is None or wanted == found:
        return
    other = vocab.path if isinstance(vocab, Vocabulary) and vocab.path else "the vocabulary given"
    raise InputError(
        f"{path} was written with another vocabulary (sha256 {found[:12]}…) than {other} (sha256 {wanted[:12]}…): "
        "use the vocab.json that lies beside these shards, or run snakemake again"
    )


def _tidy(cells: Cells) -> Cells:
    labels = (getattr(cells, name).tidy() for name in LABELS)
    return Cells(cells.cell, cells.offsets, cells.genes, cells.values, cells.tie_var, *labels)


def _schema(cells: Cells) -> pa.Schema:
    text = pa.dictionary(pa.int32(), pa.string())

    def items(array: np.ndarray) -> pa.DataType:
        return pa.list_(pa.field("element", pa.from_numpy_dtype(array.dtype), nullable=False))

    fields = [
        ("cell", pa.uint64()),
        *((name, text) for name in LABELS),
        ("genes", items(cells.genes)),
        ("values", items(cells.values)),
        ("tie_var", pa.float32()),
    ]
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in fields])


def _table(cells: Cells) -> pa.Table:
    schema = _schema(cells)
    offsets = pa.array(cells.offsets.astype(np.int32))

    def lists(name: str, array: np.ndarray) -> pa.Array:
        return pa.ListArray.from_arrays(offsets, pa.array(array), type=schema.field(name).type)

    def texts(column: Categories) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(column.codes), pa.array(column.names, pa.string()))

    columns = [
        pa.array(cells.cell),
        *(texts(getattr(cells, name)) for name in LABELS),
        lists("genes", cells.genes),
        lists("values", cells.values),
        pa.array(cells.tie_var),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _cells(table: pa.Table) -> Cells:
    table = table.unify_dictionaries().combine_chunks()

    def flat(name: str) -> tuple[np.ndarray, np.ndarray]:
        column = _one(table, name)
        offsets = column.offsets.to_numpy().astype(np.int64)
        return offsets - offsets[0], column.flatten().to_numpy()

    def labels(name: str) -> Categories:
        column = _one(table, name)
        return Categories(column.indices.to_numpy().astype(np.int32), tuple(column.dictionary.to_pylist())).tidy()

    offsets, genes = flat("genes")
    same, values = flat("values")
    if not np.array_equal(offsets, same):
        raise ValueError("genes and values differ in length")
    cell, tie_var = (_one(table, name).to_numpy() for name in ("cell", "tie_var"))
    return Cells(cell, offsets, genes, values, tie_var, *(labels(name) for name in LABELS))


def _one(table: pa.Table, name: str) -> pa.Array:
    """Return the column as one array; an empty table has no chunk."""
    column = table.column(name)
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _checksum(cells: Cells, meta: ShardMeta) -> str:
    """SHA-256 over what the file says about itself and each column's type and content."""
    digest = hashlib.sha256(json.dumps([SCHEMA_VERSION, asdict(meta)], sort_keys=True).encode())
    arrays = [getattr(cells, name) for name in ("cell", "offsets", "genes", "values", "tie_var")]
    for array in [*arrays, *(getattr(cells, name).codes for name in LABELS)]:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    digest.update(json.dumps([getattr(cells, name).names for name in LABELS]).encode())
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
