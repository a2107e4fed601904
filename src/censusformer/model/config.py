"""The shape of a model: all that is needed, beside its weights, to build it again."""

from dataclasses import asdict, dataclass
from typing import Literal

from censusformer.errors import InputError


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a `Pretrainer`; two models of one config can exchange their weights.

    Parameters
    ----------
    n_genes
        Genes of the vocabulary; `<cls>` and `<pad>` follow them, so that embeddings have n_genes + 2 rows.
    n_layers, d_model, n_heads, d_ff
        Transformer layers, width, attention heads and width of the feed-forward block.
    dropout
        Probability, after the value encoder, after attention and in the feed-forward block; never on attention weights.
    norm
        `post`: LayerNorm after each residual sum, as published; `pre`: before each block, and once behind the last.
    gene_bias
        Whether both heads carry one output bias a gene.
    """

    n_genes: int
    n_layers: int = 12
    d_model: int = 512
    n_heads: int = 8
    d_ff: int = 512
    dropout: float = 0.2
    norm: Literal["post", "pre"] = "post"
    gene_bias: bool = False

    def __post_init__(self) -> None:
        if min(self.n_genes, self.n_layers, self.d_model, self.n_heads, self.d_ff) < 1:
            raise InputError("model.n_layers, model.d_model, model.n_heads and model.d_ff must be at least 1")
        if self.d_model % self.n_heads:
            raise InputError(f"model.d_model {self.d_model} is not a multiple of model.n_heads {self.n_heads}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"model.dropout {self.dropout}: must be at least 0 and below 1")
        if self.norm not in {"post", "pre"}:
            raise ValueError(f"norm {self.norm!r}: 'post' or 'pre'")

    @property
    def size(self) -> int:
        """Rows of the gene embedding: the genes, `<cls>` and `<pad>`."""
        return self.n_genes + 2

    @property
    def pad(self) -> int:
        """Gene id of `<pad>`, whose embedding never moves."""
        return self.n_genes + 1

    def to_dict(self) -> dict[str, int | float | str | bool]:
        """Plain values, as they stand in a checkpoint."""
        return asdict(self)
