"""The h5ad files of chunks, read by blocks of rows and written in one go with h5py.

They are plain h5ad files: anndata reads them once hdf5plugin is imported (X is compressed with zstd). The steps do
without anndata because its import takes longer than reading a chunk, and because rows are wanted in blocks.
"""

import contextlib
import errno
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from censusformer import files
from censusformer.errors import InputError
from censusformer.hashing import from_hex

BLOCK = 4_000_000  # non-zeros read at a time: 16 to 32 MB
HDF5_CHUNK = 131_072  # values compressed together
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Labels:
    """A column of text: `names[codes]`.

    Parameters
    ----------
    codes
        int32 (n,), each a position in `names`; -1 where there is no label.
    names
        The labels; a name may stand there without a row.
    """

    codes: np.ndarray
    names: tuple[str, ...]

    @classmethod
    def of(cls, texts: Sequence[str] | np.ndarray) -> "Labels":
        """Labels of one text a row, names sorted."""
        names, codes = np.unique(np.asarray(texts, dtype=object).astype(str), return_inverse=True)
        return cls(codes.astype(np.int32), tuple(names.tolist()))

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: np.ndarray) -> "Labels":
        """Take the labels of these rows, all names kept."""
        return Labels(self.codes[rows], self.names)

    def texts(self) -> np.ndarray:
        """One text a row, object (n,); `unknown` where there is no label."""
        return np.array([*self.names, UNKNOWN], dtype=object)[self.codes]


@dataclass(frozen=True)
class Rows:
    """Some consecutive rows of a CSR matrix of counts.

    Parameters
    ----------
    first
        Position of the first of them in the whole matrix.
    indptr
        int64 (n+1,), from 0.
    indices
        uint16 or int32 (nnz,): columns.
    data
        uint16 or uint32 (nnz,): counts.
    """

    first: int
    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def slice(self) -> slice:
        """Where these rows stand in the whole matrix."""
        return slice(self.first, self.first + len(self))


class Chunk:
    """An open chunk; see `open_chunk`."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path, self._file = path, file
        with self._readable():
            x = file["X"]
            if not isinstance(x, h5py.Group) or "indptr" not in x or x.attrs.get("encoding-type") != "csr_matrix":
                raise InputError(f"{path}: X is no CSR matrix; this step reads what `censusformer download` writes")
            self.n_cells, self.n_genes = (int(n) for n in x.attrs["shape"])
            self._indptr = x["indptr"][:].astype(np.int64)
            ends = (self._indptr[0], self._indptr[-1])
            if len(self._indptr) != self.n_cells + 1 or np.any(np.diff(self._indptr) < 0):
                raise ValueError("X/indptr does not rise row by row")
            if ends != (0, len(x["data"])) or len(x["data"]) != len(x["indices"]):
                raise ValueError("X/indptr does not fit X/data")

    @cached_property
    def feature_id(self) -> np.ndarray:
        """Gene ids in the order of columns, object (n_genes,)."""
        with self._readable():
            return _index(self._file["var"])

    @cached_property
    def feature_name(self) -> np.ndarray:
        """Gene symbols in the order of columns, object (n_genes,); the id where there is none."""
        with self._readable():
            if "feature_name" not in self._file["var"]:
                return self.feature_id
            return _texts(self._file["var"]["feature_name"])

    @cached_property
    def cell(self) -> np.ndarray:
        """The cells' keys, uint64 (n_cells,)."""
        with self._readable():
            return from_hex(_index(self._file["obs"]))

    def labels(self, name: str, default: str | None = None) -> Labels:
        """Read an obs column of text; `default` for every cell where there is no such column."""
        with self._readable():
            if name not in self._file["obs"] and default is not None:
                return Labels(np.zeros(self.n_cells, np.int32), (default,))
            return _labels(self._column(name))

    def numbers(self, name: str) -> np.ndarray:
        """Read a numeric obs column, (n_cells,)."""
        with self._readable():
            return self._column(name)[:]

    def rows(self, block: int = BLOCK) -> Iterator[Rows]:
        """All rows in order, in blocks of about `block` non-zeros (a row is never split)."""
        first = 0
        while first < self.n_cells:
            last = int(np.searchsorted(self._indptr, self._indptr[first] + block, side="right")) - 1
            last = min(max(last, first + 1), self.n_cells)
            yield self._read(first, last)
            first = last

    def _read(self, first: int, last: int) -> Rows:
        begin, end = self._indptr[first], self._indptr[last]
        with self._readable():
            indices = _columns(self._file["X/indices"][begin:end], self.n_genes)
            data = _counts(self._file["X/data"][begin:end])
        return Rows(first, self._indptr[first : last + 1] - begin, indices, data)

    def _column(self, name: str) -> Any:
        if name not in self._file["obs"]:
            raise InputError(f"{self.path}: obs has no column {name!r}")
        return self._file["obs"][name]

    def _readable(self) -> contextlib.AbstractContextManager[None]:
        return _readable(self.path)


@contextlib.contextmanager
def open_chunk(path: str | Path) -> Iterator[Chunk]:
    """Open a chunk's h5ad file for reading.

    Raises
    ------
    InputError
        The file is absent, damaged, or holds no raw counts; also later, while reading.
    """
    path = Path(path)
    with _readable(path):
        file = h5py.File(path, "r")
    with file:
        yield Chunk(path, file)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.EACCES, errno.EMFILE):
            raise
        raise InputError(f"{path} is damaged or no chunk ({error}); delete it and run again") from error


def _index(frame: h5py.Group) -> np.ndarray:
    return _texts(frame[frame.attrs["_index"]])


def _texts(item: h5py.Group | h5py.Dataset) -> np.ndarray:
    if isinstance(item, h5py.Group):
        return _labels(item).texts()
    return item.asstr()[:]


def _labels(item: h5py.Group | h5py.Dataset) -> Labels:
    if isinstance(item, h5py.Dataset):
        return Labels.of(item.asstr()[:] if h5py.check_string_dtype(item.dtype) else item[:])
    if "categories" in item:
        categories = item["categories"]
        names = categories.asstr()[:] if h5py.check_string_dtype(categories.dtype) else categories[:].astype(str)
        return Labels(item["codes"][:].astype(np.int32), tuple(names.tolist()))
    labels = _labels(item["values"])  # a nullable column
    return Labels(np.where(item["mask"][:], np.int32(-1), labels.codes), labels.names)


def _columns(indices: np.ndarray, n: int) -> np.ndarray:
    if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < n:
        raise ValueError(f"X/indices passes the {n} genes of var")
    return indices if indices.dtype == np.uint16 else indices.astype(np.int32, copy=False)


def _counts(data: np.ndarray) -> np.ndarray:
    """Counts as uint16 where the file has them so, else as uint32: two types for kernels to be compiled for."""
    if data.dtype == np.uint16 or not len(data):
        return data.astype(np.uint16, copy=False)
    if not (data.min() >= 0 and data.max() < 2**32):
        raise ValueError("X/data has values that are no counts")
    counts = data.astype(np.uint32)
    if data.dtype.kind == "f" and not np.array_equal(counts, data):
        raise ValueError("X/data has fractions: normalised values, where raw counts are needed")
    return counts


def compact(numbers: np.ndarray) -> np.ndarray:
    """Non-negative integers as uint16 where they fit, else as int32 or int64: files of half the size."""
    top = int(numbers.max(initial=0))
    kind = np.uint16 if top < 2**16 else np.int32 if top < 2**31 else np.int64
    return numbers.astype(kind, copy=False)


def write_chunk(
    path: str | Path,
    csr: tuple[np.ndarray, np.ndarray, np.ndarray],
    obs: Mapping[str, np.ndarray | Labels],
    var: Mapping[str, np.ndarray | Labels],
    *,
    obs_names: Sequence[str],
    var_names: Sequence[str],
) -> None:
    """Write an h5ad file, whole or not at all; the same input gives the same bytes.

    Parameters
    ----------
    path
        Where to.
    csr
        (indptr, indices, data) of X, stored in the types that they have (see `compact`).
    obs, var
        Columns of cells and genes: numbers, booleans, texts or `Labels` (stored as categories).
    obs_names, var_names
        The index of each.
    """
    names = ("indptr", "indices", "data")
    with files.atomic(path) as temporary, h5py.File(temporary, "w") as file:
        _encode(file, "anndata", "0.1.0")
        x = file.create_group("X")
        _encode(x, "csr_matrix", "0.1.0")
        x.attrs["shape"] = np.array([len(obs_names), len(var_names)], np.int64)
        for name, array in zip(names, csr, strict=True):
            x.create_dataset(name, data=array, **_packed(len(array)))
        _write_frame(file, "obs", obs, obs_names)
        _write_frame(file, "var", var, var_names)
        for name in ("layers", "obsm", "obsp", "uns", "varm", "varp"):
            _encode(file.create_group(name), "dict", "0.1.0")


def _packed(n: int) -> dict[str, Any]:
    """Shuffle and zstd at level 1: 2 GB/s when read back (gzip: a quarter GB/s)."""
    if n == 0:
        return {}
    return {"chunks": (min(n, HDF5_CHUNK),), "shuffle": True, **hdf5plugin.Zstd(clevel=1)}


def _encode(item: h5py.Group | h5py.Dataset, kind: str, version: str) -> None:
    item.attrs["encoding-type"], item.attrs["encoding-version"] = kind, version


def _write_frame(
    parent: h5py.Group, name: str, columns: Mapping[str, np.ndarray | Labels], index: Sequence[str]
) -> None:
    frame = parent.create_group(name)
    _encode(frame, "dataframe", "0.2.0")
    frame.attrs["_index"] = "_index"
    frame.attrs["column-order"] = np.array(list(columns), dtype=h5py.string_dtype())
    _write_column(frame, "_index", np.asarray(index, dtype=object))
    for column, values in columns.items():
        if len(values) != len(index):
            raise ValueError(f"{name}.{column} has {len(values)} values for {len(index)} rows")
        _write_column(frame, column, values)


def _write_column(frame: h5py.Group, name: str, values: np.ndarray | Labels) -> None:
    if isinstance(values, Labels):
        group = frame.create_group(name)
        _encode(group, "categorical", "0.2.0")
        group.attrs["ordered"] = False
        _write_column(group, "codes", values.codes)
        _write_column(group, "categories", np.array(values.names, dtype=object))
    elif values.dtype.kind in "OU":
        texts = np.asarray(values, dtype=object)
        _encode(frame.create_dataset(name, data=texts, dtype=h5py.string_dtype()), "string-array", "0.2.0")
    else:
        _encode(frame.create_dataset(name, data=values, **_packed(len(values))), "array", "0.2.0")
