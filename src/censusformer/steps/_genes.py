"""The kept genes, whose order is the vocabulary's."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from censusformer.errors import InputError
from censusformer.hashing import words
from censusformer.steps._chunks import Chunk
from censusformer.steps._tables import read_table


@dataclass(frozen=True)
class Genes:
    """The kept genes in the order of the vocabulary, of `genes.parquet`."""

    feature_id: tuple[str, ...]
    feature_name: tuple[str, ...]

    @classmethod
    def read(cls, path: str | Path) -> "Genes":
        """Read `genes.parquet`."""
        table = read_table(path, ["feature_id", "feature_name"])
        return cls(*(tuple(table[name].to_pylist()) for name in ("feature_id", "feature_name")))

    def __len__(self) -> int:
        return len(self.feature_id)

    def words_of(self, wanted: np.ndarray) -> np.ndarray:
        """The genes' words, uint64 (n_genes,); 0 for those that are not wanted (bool (n_genes,))."""
        found = np.zeros(len(self), np.uint64)
        found[wanted] = words(self.feature_id[i] for i in np.flatnonzero(wanted).tolist())
        return found

    @cached_property
    def _ids(self) -> pa.Array:
        return pa.array(self.feature_id, pa.string())

    def of_columns(self, chunk: Chunk) -> np.ndarray:
        """Which kept gene each of the chunk's columns is, int32; -1 for none."""
        found = pc.index_in(pa.array(chunk.feature_id, pa.string()), self._ids)
        return found.fill_null(-1).to_numpy()

    def find(self, feature_ids: pa.ChunkedArray, source: str | Path) -> np.ndarray:
        """Places of these gene ids, which `source` names; all are kept genes. int64."""
        names = feature_ids.cast(pa.string())
        found = pc.index_in(names, self._ids)
        if found.null_count:
            raise InputError(f"{source} names gene {_first_null(names, found)!r}, which is not kept; run `hvg` again")
        return found.to_numpy().astype(np.int64)


def _first_null(names: pa.ChunkedArray, found: pa.ChunkedArray) -> str:
    return names.filter(found.is_null())[0].as_py()
