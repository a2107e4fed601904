"""The heads of pretraining: expression from each position (GEP) and from the cell's embedding (GEPC)."""

import torch
from torch import Tensor, nn

from censusformer.model.config import ModelConfig

# index_select, not indexing: the gradient of indexing adds up in any order when CPU threads share it.


def _gene_bias(config: ModelConfig) -> nn.Parameter | None:
    return nn.Parameter(torch.zeros(config.size)) if config.gene_bias else None


class ExpressionDecoder(nn.Module):
    """GEP: a fully connected network on the output of a position (scGPT's `ExprDecoder`)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d = config.d_model
        self.fc = nn.Sequential(nn.Linear(d, d), nn.LeakyReLU(), nn.Linear(d, d), nn.LeakyReLU(), nn.Linear(d, 1))
        self.gene_bias = _gene_bias(config)

    def forward(self, tokens: Tensor, genes: Tensor) -> Tensor:
        """(M, d) outputs and (M,) gene ids -> (M,) bins."""
        bins = self.fc(tokens).squeeze(-1)
        return bins if self.gene_bias is None else bins + self.gene_bias.index_select(0, genes)


class CellDecoder(nn.Module):
    """GEPC: inner product of the cell's embedding with a query of the gene (scGPT's `MVCDecoder`, inner product)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d = config.d_model
        self.gene2query = nn.Linear(d, d)
        self.W = nn.Linear(d, d, bias=False)
        self.gene_bias = _gene_bias(config)

    def forward(self, cells: Tensor, gene_vectors: Tensor, genes: Tensor) -> Tensor:
        """(M, d) embedding of each position's cell, (M, d) gene embeddings, (M,) gene ids -> (M,) bins."""
        query = self.W(torch.sigmoid(self.gene2query(gene_vectors)))  # (M, d)
        bins = (query * cells).sum(-1)
        return bins if self.gene_bias is None else bins + self.gene_bias.index_select(0, genes)
