"""Where a packed step's time goes: attention, matmul, dropout, copies, loader and the rest.

    PYTHONPATH=src python benchmarks/breakdown.py --shards results/blood-h5ad [--model cpu-128]

Shares are of the time that PyTorch's profiler gives each operation itself (of the GPU's kernels where there is one);
the loader is timed apart, per CPU second, beside the step, since a thread of its own does it.
"""

import argparse
import time
from pathlib import Path

import inputs
import torch
from torch.profiler import ProfilerActivity, profile
from train import MODELS

from censusformer.model import ModelConfig, Pretrainer, squared_errors
from censusformer.training.batches import Batch, TrainingBatches
from censusformer.training.recipes import RECIPES, build_optimizer
from censusformer.training.settings import MaskSettings

KINDS = {  # the first that a name contains
    "attention": ("attention", "Attention", "flash", "fmha"),
    "optimiser": ("_fused_adam", "foreach", "norm_for", "multi_tensor"),
    "matmul": ("::mm", "::addmm", "::bmm", "gemm", "cutlass", "nvjet"),
    "layer norm": ("layer_norm",),
    "dropout": ("random_", "bernoulli", "dropout", "aten::ge"),
    "copies": ("cat", "copy", "index", "embedding", "clone", "Memcpy"),
    "arithmetic": ("::mul", "::add", "::sum", "clamp", "threshold", "sigmoid", "leaky", "::div", "elementwise"),
}


def kind_of(name: str) -> str:
    """Kind of an operation; what starts, views and frees tensors is `launch and the rest`."""
    found = (kind for kind, parts in KINDS.items() if any(part in name for part in parts))
    return next(found, "launch and the rest")


def main() -> None:
    """Profile and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--model", choices=list(MODELS), default="cpu-128")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device, cuda = torch.device(args.device), args.device.startswith("cuda")
    data, _ = inputs.read(args.shards)
    model = Pretrainer(ModelConfig(data.vocabulary.n_genes, **MODELS[args.model], dropout=0.2)).to(device)
    optimizer = build_optimizer(model, RECIPES["reference"], 1e-4)
    source = TrainingBatches(data.train, data.vocabulary, MaskSettings(), args.batch_size, 0)
    epoch = source.epoch(0)
    batches = [next(epoch).to(device) for _ in range(args.steps + 1)]

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
            errors = squared_errors(model(batch.packed, batch.positions, batch.cells), batch.targets)
        (errors.sum() / batch.n_masked).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    step(batches[0])
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as taken:
        for batch in batches[1:]:
            step(batch)
    times: dict[str, float] = {}
    for event in taken.key_averages():
        spent = event.self_device_time_total if cuda else event.self_cpu_time_total
        times[kind_of(event.key)] = times.get(kind_of(event.key), 0.0) + spent / args.steps / 1e3
    start = time.process_time()
    n = sum(batch.n_cells for batch in source.epoch(1))
    loader = (time.process_time() - start) / n * args.batch_size * 1e3
    total = sum(times.values())
    rows = [{"part": kind, "ms a step": ms, "share": f"{ms / total:.0%}"} for kind, ms in times.items()]
    rows.sort(key=lambda row: -row["ms a step"])
    rows.append({"part": "loader, in its own thread", "ms a step": loader, "share": f"{loader / total:.1%}"})
    print(inputs.table(rows))


if __name__ == "__main__":
    main()
