"""The h5ad files of chunks, read by blocks of rows with h5py.

The steps do without anndata because its import takes longer than reading a chunk, and because rows are wanted in
blocks. `_h5ad` writes such files.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers Blosc with HDF5
import numpy as np

from censusformer.errors import InputError
from censusformer.files import is_intact
from censusformer.hashing import from_hex
from censusformer.steps._h5ad import Labels

BLOCK = 1_000_000  # non-zeros read at a time: 4 to 8 MB, which stay in the processor's cache


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
    def n_bytes(self) -> int:
        """What all values and their columns take in memory."""
        with self._readable():
            return sum(self._file[name].size * self._file[name].dtype.itemsize for name in ("X/data", "X/indices"))

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
        with _readable(path):
            if not is_intact(path):
                raise ValueError("its checksum does not fit")
        yield Chunk(path, file)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.EACCES, errno.EMFILE):
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error  # HDF5's does not name it
        raise InputError(f"{path} is damaged or no chunk ({error}); delete it and run again") from error


def _index(frame: h5py.Group) -> np.ndarray:
    return _texts(frame[frame.attrs["_index"]])


def _texts(item: h5py.Group | h5py.Dataset) -> np.ndarray:
    if isinstance(item, h5py.Group):
        return _labels(item).texts()
    if h5py.check_string_dtype(item.dtype).length is None or not len(item):
        return item.asstr()[:]
    return np.array(b"\0".join(item[:].tolist()).decode().split("\0"), dtype=object)  # all at once: 10x as fast


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
