"""A pretrained model put to work on one's own cells: `model = censusformer.load(path)`, `model.embed(adata)`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from censusformer.model import Pretrainer
from censusformer.steps._counts import AUTO, of_adata
from censusformer.steps._own import MIN_COVERAGE, OwnCells, Reading
from censusformer.training import embed_cells, load_model

if TYPE_CHECKING:
    import anndata

KEY = "X_censusformer"


@dataclass(frozen=True)
class Model:
    """A pretrained encoder that reads one's own cells.

    Parameters
    ----------
    path
        Its file.
    module
        Encoder and heads, a `torch.nn.Module` in evaluation mode.
    reading
        How it reads cells: vocabulary, list of genes, bins.
    about
        What else its file says, see `censusformer.training.load_model`.
    """

    path: Path
    module: Pretrainer
    reading: Reading
    about: Mapping[str, Any]

    def embed(
        self,
        adata: "anndata.AnnData",
        *,
        key: str = KEY,
        layer: str = AUTO,
        pooling: str = "cls",
        min_coverage: float = MIN_COVERAGE,
    ) -> np.ndarray:
        """Embed the cells of an AnnData, in memory or backed, and keep the result in it.

        Parameters
        ----------
        adata
            Cells with raw counts in X, a layer or raw; genes as symbols or Ensembl ids, in any order.
        key
            Of `adata.obsm` and `adata.uns`, where embeddings and what is known of them go.
        layer
            Where the raw counts are: `X`, `raw`, the name of a layer, or `auto`.
        pooling
            `cls` or `mean`, see `censusformer.training.embed_cells`.
        min_coverage
            The least share of the genes that the model reads which the AnnData must have.

        Returns
        -------
        float32 (n_cells, d_model).

        Raises
        ------
        censusformer.errors.InputError
            Where there are no raw counts, or too few of the model's genes.
        """
        own = OwnCells(of_adata(adata, layer), self.reading, min_coverage)
        vectors = np.empty((len(own), self.module.config.d_model), np.float32)
        first = 0
        for block in self.embedded(own, pooling):
            vectors[first : first + len(block)] = block
            first += len(block)
        adata.obsm[key], adata.uns[key] = vectors, self.record(own, pooling)
        return vectors

    def embedded(self, own: OwnCells, pooling: str = "cls") -> Iterator[np.ndarray]:
        """Embeddings of all cells in their order, a block at a time, float32 (block, d_model)."""
        for cells in own.blocks():
            yield embed_cells(self.module, cells, pooling)

    def record(self, own: OwnCells, pooling: str) -> dict[str, str | int | float]:
        """What a reader of embeddings wants to know of them; once `own` has been read to its end."""
        found = own.coverage
        return {
            "model": self.path.name,
            "vocab_sha256": self.reading.vocabulary.sha256,
            "pooling": pooling,
            "genes_read": found.listed,
            "genes_found": found.genes,
            "share_of_counts_in_vocabulary": found.known / max(1, found.counts),
            "share_of_counts_read": found.read / max(1, found.counts),
        }


def load(path: str | Path, device: str | torch.device | None = None) -> Model:
    """Load a pretrained model.

    Parameters
    ----------
    path
        `best_model.pt`.
    device
        Where it shall run; by default on a GPU where there is one.

    Raises
    ------
    censusformer.errors.InputError
        Where the file is no such model, or cannot read other cells than those it was trained on.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    module, about = load_model(path, device)
    return Model(Path(path), module, Reading.of(about, path), about)
