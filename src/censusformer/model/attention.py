"""Self-attention within each cell, over cells packed into one token axis; three back ends behind one function.

Shapes: T tokens of all cells, B cells, H heads, D width of a head, L tokens of the longest cell. Cell i owns the tokens
cu_seqlens[i] .. cu_seqlens[i + 1] - 1. No back end drops attention weights, so that all compute the same function.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # PyTorch built without it
    varlen_attn = None

Backend = Literal["auto", "cpu", "padded", "varlen"]
BACKENDS: tuple[Backend, ...] = ("auto", "cpu", "padded", "varlen")


def attention(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, backend: Backend = "auto", *, max_length: int | None = None
) -> Tensor:
    """softmax(q kᵀ / sqrt(D)) v, each token over the tokens of its own cell.

    Parameters
    ----------
    q, k, v
        (T, H, D), any float type.
    cu_seqlens
        int32 (B + 1,), from 0 to T; every cell has at least one token.
    backend
        `cpu`: one fused call a cell; `padded`: one masked call over (B, H, L, D); `varlen`: variable
        length flash attention, CUDA and 16 bits only; `auto` chooses.
    max_length
        L where the caller knows it: spares CUDA a synchronisation.

    Returns
    -------
    (T, H, D) tensor.
    """
    if backend == "auto":
        backend = choose_backend(q.device, q.dtype)
    if backend == "cpu":
        return _attend_cells(q, k, v, cu_seqlens)
    if max_length is None:
        max_length = int(cu_seqlens.diff().max())
    if backend == "varlen":
        return _attend_varlen(q, k, v, cu_seqlens, max_length)
    return _attend_padded(q, k, v, cu_seqlens, max_length)


def choose_backend(device: torch.device, dtype: torch.dtype) -> Backend:
    """The fastest back end that this device and number type have."""
    if device.type == "cpu":
        return "cpu"
    sixteen_bits = dtype in {torch.bfloat16, torch.float16}
    return "varlen" if device.type == "cuda" and sixteen_bits and varlen_attn is not None else "padded"


def _attend_cells(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor) -> Tensor:
    lengths = cu_seqlens.diff().tolist()
    heads_first = (x.transpose(0, 1).split(lengths, dim=1) for x in (q, k, v))  # each cell: (H, n, D)
    outputs = [
        scaled_dot_product_attention(a.unsqueeze(0), b.unsqueeze(0), c.unsqueeze(0))[0].transpose(0, 1)
        for a, b, c in zip(*heads_first, strict=True)
    ]
    return torch.cat(outputs)


def _attend_padded(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, max_length: int) -> Tensor:
    lengths, tokens = cu_seqlens.diff(), torch.arange(len(q), device=q.device)
    real = torch.arange(max_length, device=q.device) < lengths[:, None]  # (B, L)
    cell = torch.bucketize(tokens, cu_seqlens[1:], right=True)  # of each token; nonzero() would make CUDA wait
    position = tokens - cu_seqlens[cell]

    def pad(x: Tensor) -> Tensor:
        return x.new_zeros(len(lengths), max_length, *x.shape[1:]).index_put((cell, position), x).transpose(1, 2)

    out = scaled_dot_product_attention(pad(q), pad(k), pad(v), attn_mask=real[:, None, None])  # (B, H, L, D)
    return out.transpose(1, 2)[cell, position]


def _attend_varlen(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, max_length: int) -> Tensor:
    if varlen_attn is None or q.device.type != "cuda":
        raise ValueError("attention 'varlen' needs CUDA and PyTorch >= 2.10: choose 'auto', 'cpu' or 'padded'")
    if q.dtype not in {torch.bfloat16, torch.float16}:
        raise ValueError(
            "attention 'varlen' needs 16 bits: set precision to bf16-mixed or 16-mixed, or choose 'padded'"
        )
    return varlen_attn(q, k, v, cu_seqlens, cu_seqlens, max_length, max_length)
