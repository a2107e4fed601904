"""The model of masked-expression pretraining, and its loss."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from censusformer.model.config import ModelConfig
from censusformer.model.encoder import Encoder, Packed
from censusformer.model.heads import CellDecoder, ExpressionDecoder


class Prediction(NamedTuple):
    """Expression at the positions asked for, in bin units."""

    gep: Tensor  # (M,) from each position
    gepc: Tensor  # (M,) from the cell's embedding


class Pretrainer(Encoder):
    """The encoder with the heads GEP and GEPC, in the shapes of scGPT's `TransformerModel`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.decoder = ExpressionDecoder(config)
        self.mvc_decoder = CellDecoder(config)

    def forward(self, packed: Packed, positions: Tensor, cells: Tensor) -> Prediction:
        """Predict the expression at some positions.

        Parameters
        ----------
        packed
            A batch.
        positions
            int64 (M,), tokens to predict.
        cells
            int64 (M,), the cell of each of them.
        """
        encoded = self.encode(packed)
        genes = packed.genes.index_select(0, positions)  # (M,)
        cls = encoded.tokens.index_select(0, packed.cu_seqlens[:-1])  # (B, d)
        gep = self.decoder(encoded.tokens.index_select(0, positions), genes)
        gepc = self.mvc_decoder(cls.index_select(0, cells), encoded.genes.index_select(0, positions), genes)
        return Prediction(gep.float(), gepc.float())

    def start_at_means(self, mean_bin: np.ndarray, share: float = 1.0) -> None:
        """Let both heads begin near the predictor that knows each gene's mean bin, and nothing else.

        For models with a gene bias; others begin as they are. GEP begins there exactly: its last weights are zero.

        Parameters
        ----------
        mean_bin
            float (n_genes,).
        share
            Of GEPC's W, what is left of its initial weights: from zero it learned more slowly (on the shared blood).
        """
        if not self.config.gene_bias:
            return
        with torch.no_grad():
            for head in (self.decoder, self.mvc_decoder):
                head.gene_bias[: self.config.n_genes] = torch.as_tensor(mean_bin, dtype=head.gene_bias.dtype)
            self.decoder.fc[-1].weight.zero_()
            self.decoder.fc[-1].bias.zero_()
            self.mvc_decoder.W.weight.mul_(share)


def squared_errors(prediction: Prediction, targets: Tensor) -> Tensor:
    """Sums of squared errors of GEP and GEPC over the positions: (M,) -> (2,); the loss is their sum over M."""
    gep = (prediction.gep - targets).square().sum()
    gepc = (prediction.gepc - targets).square().sum()
    return torch.stack((gep, gepc))


def parameter_counts(model: Encoder) -> dict[str, int]:
    """Parameters in all, of the gene embedding, and without it (the N of the usual FLOP count)."""
    total = sum(p.numel() for p in model.parameters())
    embedding = model.encoder.embedding.weight.numel()
    return {"total": total, "embedding": embedding, "non_embedding": total - embedding}
