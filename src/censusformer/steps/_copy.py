"""A user's h5ad file with something added: a copy that is otherwise what it was, whole or not at all."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from censusformer.files import atomic


@contextlib.contextmanager
def copied(file: Path, out: Path) -> Iterator[h5py.File]:
    """Open a copy of `file` for changes; it becomes `out` when the block ends well. Both may be one."""
    with atomic(out) as temporary:
        shutil.copyfile(file, temporary)
        with h5py.File(temporary, "r+") as store:
            yield store


def write_vectors(store: h5py.File, key: str, shape: tuple[int, int], blocks: Iterator[np.ndarray]) -> None:
    """Write `obsm/{key}` as anndata does (its element `array`), block by block."""
    if "obsm" not in store:
        store.create_group("obsm").attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
    if key in store["obsm"]:
        del store["obsm"][key]
    vectors = store["obsm"].create_dataset(key, shape, np.float32)
    vectors.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    first = 0
    for block in blocks:
        vectors[first : first + len(block)] = block
        first += len(block)


def write_record(store: h5py.File, key: str, record: Mapping[str, str | int | float]) -> None:
    """Write `uns/{key}`."""
    from anndata.io import write_elem

    if "uns" not in store:
        write_elem(store, "uns", {})
    write_elem(store["uns"], key, dict(record))


def write_columns(store: h5py.File, columns: Mapping[str, np.ndarray | pd.Categorical]) -> None:
    """Write columns of obs; those of the same names are replaced."""
    from anndata.io import write_elem

    obs = store["obs"]
    order = [name for name in obs.attrs["column-order"] if name not in columns]
    for name, values in columns.items():
        write_elem(obs, name, values)
    obs.attrs["column-order"] = np.array([*order, *columns], dtype=h5py.string_dtype())
