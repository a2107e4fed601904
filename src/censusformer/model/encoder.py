"""The encoder: embeddings of genes and values, their sum, a Transformer without positions.

Parameters bear the names of scGPT's `TransformerModel` (Cui et al. 2024), so that weights can be exchanged.
Shapes: T tokens of all cells packed into one axis, d = d_model, H heads; the cells are told apart by `cu_seqlens`.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from censusformer.model.attention import Backend, attention
from censusformer.model.config import ModelConfig
from censusformer.model.dropout import Dropout


class Packed(NamedTuple):
    """Cells packed into one token axis, `<cls>` first in each.

    Parameters
    ----------
    genes
        int64 (T,) gene ids.
    values
        float32 (T,) bins; 0 for `<cls>`, -1 where masked.
    cu_seqlens
        int32 (B + 1,), the first token of each cell, and T.
    max_length
        L, tokens of the longest cell.
    """

    genes: Tensor
    values: Tensor
    cu_seqlens: Tensor
    max_length: int


class Encoded(NamedTuple):
    """What the encoder knows of a batch."""

    tokens: Tensor  # (T, d), the output of each token
    genes: Tensor  # (T, d), the gene embeddings that entered


class GeneEncoder(nn.Module):
    """Embedding of the gene, normalised."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.size, config.d_model, padding_idx=config.pad)
        self.enc_norm = nn.LayerNorm(config.d_model)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)

    def forward(self, genes: Tensor) -> Tensor:
        """(T,) integers -> (T, d)."""
        return self.enc_norm(self.embedding(genes))


class ValueEncoder(nn.Module):
    """Embedding of the bin, taken as a number."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.linear1 = nn.Linear(1, config.d_model)
        self.linear2 = nn.Linear(config.d_model, config.d_model)
        self.norm = nn.LayerNorm(config.d_model)
        self.dropout = Dropout(config.dropout)

    def forward(self, values: Tensor) -> Tensor:
        """(T,) floats -> (T, d)."""
        hidden = torch.relu(self.linear1(values.unsqueeze(-1)))
        return self.dropout(self.norm(self.linear2(hidden)))


class SelfAttention(nn.Module):
    """Multi-head self-attention within each cell; weights laid out as in `nn.MultiheadAttention`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d = config.d_model
        self.n_heads = config.n_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * d, d))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * d))
        self.out_proj = nn.Linear(d, d)
        self.backend: Backend = "auto"
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, cu_seqlens: Tensor, max_length: int) -> Tensor:
        """(T, d) -> (T, d)."""
        qkv = nn.functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = qkv.view(len(x), 3, self.n_heads, -1).unbind(1)  # (T, H, d / H) each
        mixed = attention(q, k, v, cu_seqlens, self.backend, max_length=max_length)
        return self.out_proj(mixed.reshape(len(x), -1))


class EncoderLayer(nn.Module):
    """Attention and a feed-forward block, each with its residual sum and LayerNorm (`post` or `pre`)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attn = SelfAttention(config)
        self.linear1 = nn.Linear(config.d_model, config.d_ff)
        self.linear2 = nn.Linear(config.d_ff, config.d_model)
        self.norm1 = nn.LayerNorm(config.d_model)
        self.norm2 = nn.LayerNorm(config.d_model)
        self.dropout = Dropout(config.dropout)
        self.pre_norm = config.norm == "pre"

    def feed_forward(self, x: Tensor) -> Tensor:
        """(T, d) -> (T, d)."""
        return self.dropout(self.linear2(self.dropout(torch.relu(self.linear1(x)))))

    def forward(self, x: Tensor, cu_seqlens: Tensor, max_length: int) -> Tensor:
        """(T, d) -> (T, d)."""
        if self.pre_norm:
            x = x + self.dropout(self.self_attn(self.norm1(x), cu_seqlens, max_length))
            return x + self.feed_forward(self.norm2(x))
        x = self.norm1(x + self.dropout(self.self_attn(x, cu_seqlens, max_length)))
        return self.norm2(x + self.feed_forward(x))


class Transformer(nn.Module):
    """A stack of layers; `pre` norm ends with one LayerNorm more."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model) if config.norm == "pre" else nn.Identity()

    def forward(self, x: Tensor, cu_seqlens: Tensor, max_length: int) -> Tensor:
        """(T, d) -> (T, d)."""
        for layer in self.layers:
            x = layer(x, cu_seqlens, max_length)
        return self.norm(x)


class Encoder(nn.Module):
    """Genes and values of packed cells -> one vector a token; blind to order and to padding.

    `Pretrainer` adds the heads to it; a fine-tuned model adds its own.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = GeneEncoder(config)
        self.value_encoder = ValueEncoder(config)
        self.transformer_encoder = Transformer(config)

    def encode(self, cells: Packed) -> Encoded:
        """Encode a batch of cells."""
        gene_vectors = self.encoder(cells.genes)  # (T, d)
        x = gene_vectors + self.value_encoder(cells.values)
        return Encoded(self.transformer_encoder(x, cells.cu_seqlens, cells.max_length), gene_vectors)

    def set_attention(self, backend: Backend) -> None:
        """Force the attention back end of every layer, or let it be chosen (`auto`)."""
        for layer in self.transformer_encoder.layers:
            layer.self_attn.backend = backend
