"""Writing h5ad files with h5py alone; anndata reads them once hdf5plugin is imported (X is LZ4, by Blosc)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from censusformer import files

HDF5_CHUNK = 131_072  # values compressed together
_GROWTH = 16 * 1024**2  # bytes by which a file in memory grows
_SHORT = 64  # bytes of a text up to which a column of texts is stored with equal lengths, compressed: read 10x as fast
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

    def tidy(self) -> "Labels":
        """Keep the names that occur, sorted, with `unknown` where there is no label: what `of` makes of the texts."""
        texts = [*self.names, UNKNOWN]
        used = np.bincount(self.codes + np.int32(1), minlength=len(texts))  # the first for -1
        names = sorted({texts[i - 1] for i in np.flatnonzero(used).tolist()})
        place = {name: i for i, name in enumerate(names)}
        return Labels(np.array([place.get(text, -1) for text in texts], np.int32)[self.codes], tuple(names))

    def texts(self) -> np.ndarray:
        """One text a row, object (n,); `unknown` where there is no label."""
        return np.array([*self.names, UNKNOWN], dtype=object)[self.codes]


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
    # Put together in memory, compressed: where a disk is full, HDF5 itself crashes when it closes a file.
    with h5py.File(str(path), "w", driver="core", backing_store=False, block_size=_GROWTH) as file:
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
        file.flush()
        image = file.id.get_file_image()
    with files.atomic(path) as temporary, temporary.open("wb") as file:
        file.write(image)
        file.write(files.seal(image))  # behind the end that HDF5 has noted


def _packed(n: int) -> dict[str, Any]:
    """Shuffle and LZ4 by Blosc: read twice as fast as shuffle and zstd, of which it takes 1.25 times the room."""
    if n == 0:
        return {}
    return {
        "chunks": (min(n, HDF5_CHUNK),),
        **hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE),
    }


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
        _encode(_write_texts(frame, name, values), "string-array", "0.2.0")
    else:
        _encode(frame.create_dataset(name, data=values, **_packed(len(values))), "array", "0.2.0")


def _write_texts(frame: h5py.Group, name: str, values: np.ndarray) -> h5py.Dataset:
    encoded = np.array("\0".join(map(str, values.tolist())).encode().split(b"\0"))  # all at once
    if not len(values) or not 0 < encoded.dtype.itemsize <= _SHORT:
        return frame.create_dataset(name, data=np.asarray(values, dtype=object), dtype=h5py.string_dtype())
    kind = h5py.string_dtype(length=encoded.dtype.itemsize)
    return frame.create_dataset(name, data=encoded.astype(kind), **_packed(len(encoded)))
