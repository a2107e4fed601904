"""Back ends of attention against a plain padded float64 reference, forward and gradients; exits 1 where one is off.

    PYTHONPATH=src python benchmarks/correctness.py

The error is the largest difference over the largest value of the reference, for the output and each gradient. Limits:
1e-5 in 32 bits (TF32 off), 2e-2 in 16. On a GPU, `varlen` is measured in bf16 and fp16, and the whole model, packed in
bf16, against itself padded in 32 bits.
"""

import argparse
import sys

import inputs
import torch
from torch import Tensor

from censusformer.model import ModelConfig, Pretrainer, attention
from censusformer.model.attention import varlen_attn
from censusformer.tokens.masking import training_mask
from censusformer.training.batches import pack

LENGTHS = {"random": None, "longest": [1201], "mixed": [1, 1201, 2, 300], "a thousand": [30] * 1000}
LIMITS = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-2}


def plain(q: Tensor, k: Tensor, v: Tensor, lengths: list[int]) -> Tensor:
    """softmax(q kᵀ / sqrt(D)) v, padded and masked, written out: (T, H, D)."""
    real = torch.arange(max(lengths), device=q.device) < torch.tensor(lengths, device=q.device)[:, None]  # (B, L)

    def pad(x: Tensor) -> Tensor:
        return x.new_zeros(*real.shape, *x.shape[1:]).masked_scatter(real[..., None, None], x).transpose(1, 2)

    scores = pad(q) @ pad(k).transpose(2, 3) / q.shape[-1] ** 0.5
    weights = scores.masked_fill(~real[:, None, None], -torch.inf).softmax(-1)
    return (weights @ pad(v)).transpose(1, 2)[real]


def results(function, tensors: list[Tensor], weight: Tensor) -> list[Tensor]:
    """Output and gradients of q, k and v."""
    tensors = [x.detach().clone().requires_grad_() for x in tensors]
    out = function(*tensors)
    (out * weight).sum().backward()
    return [out.detach().double(), *(x.grad.double() for x in tensors)]


def error(backend: str, dtype: torch.dtype, lengths: list[int], device: str) -> float:
    """Largest relative error of a back end, on inputs that this number type can hold."""
    generator = torch.Generator().manual_seed(0)
    shape = 4, sum(lengths), 2, 32
    drawn = torch.randn(shape, generator=generator).to(device, dtype)
    *tensors, weight = drawn.unbind()
    cu_seqlens = torch.tensor([0, *lengths], device=device).cumsum(0).int()
    wanted = results(lambda q, k, v: plain(q, k, v, lengths), [x.double() for x in tensors], weight.double())
    found = results(lambda q, k, v: attention(q, k, v, cu_seqlens, backend, max_length=max(lengths)), tensors, weight)
    scales = [torch.clamp(x.abs().max(), min=1e-3) for x in wanted]  # one token alone: its weights have no gradient
    return max(float((a - b).abs().max() / s) for a, b, s in zip(wanted, found, scales, strict=True))


def model_error(device: str, dtype: torch.dtype) -> float:
    """Largest relative difference of predictions: autocast on the chosen back end against 32 bits, padded."""
    vocabulary = inputs.made_up_vocabulary(500)
    cells = inputs.made_up_cells(64, 120, 500)
    how = {"ratios": (0.5,), "draw": "cell", "seed": 0, "epoch": 0}
    batch = pack(cells, training_mask(cells, vocabulary.gene_words, **how)[0], vocabulary.cls).batch(0, 64)
    batch = batch.to(torch.device(device))
    torch.manual_seed(0)
    model = Pretrainer(ModelConfig(500, n_layers=4, d_model=128, n_heads=4, d_ff=128)).to(device).eval()
    with torch.no_grad():
        model.set_attention("padded")
        wanted = model(batch.packed, batch.positions, batch.cells)
        model.set_attention("auto")
        with torch.autocast(device, dtype):
            found = model(batch.packed, batch.positions, batch.cells)
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(wanted, found, strict=True))


def cases(device: str) -> list[tuple[str, torch.dtype]]:
    """Back ends and number types that this device has."""
    if device == "cpu":
        return [("cpu", torch.float32), ("padded", torch.float32), ("cpu", torch.bfloat16)]
    sixteen = [("varlen", torch.bfloat16), ("varlen", torch.float16)] if varlen_attn is not None else []
    return [("padded", torch.float32), ("padded", torch.bfloat16), *sixteen]


def main() -> None:
    """Measure, print, and fail where a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.set_float32_matmul_precision("highest")
    rows = []
    for name, lengths in LENGTHS.items():
        drawn = torch.randint(1, 1202, (20,), generator=torch.Generator().manual_seed(1)).tolist()
        for backend, dtype in cases(args.device):
            off = error(backend, dtype, lengths or drawn, args.device)
            rows.append({"lengths": name, "what": backend, "type": str(dtype), "error": off, "limit": LIMITS[dtype]})
    off = model_error(args.device, torch.bfloat16)
    rows.append({"lengths": "64 cells", "what": "whole model", "type": "torch.bfloat16", "error": off, "limit": 2e-2})
    for row in rows:
        row["within"] = bool(row["error"] <= row["limit"])
        row["error"], row["limit"] = f"{row['error']:.1e}", f"{row['limit']:.0e}"
    print(inputs.table(rows))
    sys.exit(0 if all(row["within"] for row in rows) else 1)


if __name__ == "__main__":
    main()
