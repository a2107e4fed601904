"""The kept genes, whose order is the vocabulary's."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

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

    @cached_property
    def position(self) -> dict[str, int]:
        """The gene id's place in the vocabulary."""
        return {feature_id: i for i, feature_id in enumerate(self.feature_id)}

    @cached_property
    def words(self) -> np.ndarray:
        """The genes' words, uint64 (n_genes,)."""
        return words(self.feature_id)

    def of_columns(self, chunk: Chunk) -> np.ndarray:
        """Which kept gene each of the chunk's columns is, int32; -1 for none."""
        return np.array([self.position.get(feature_id, -1) for feature_id in chunk.feature_id], np.int32)

    def find(self, feature_ids: Sequence[str], source: str | Path) -> np.ndarray:
        """Places of these gene ids, which `source` names; all are kept genes."""
        try:
            return np.array([self.position[feature_id] for feature_id in feature_ids], np.int64)
        except KeyError as error:
            raise InputError(f"{source} names gene {error}, which is not kept; run `hvg` again") from None
