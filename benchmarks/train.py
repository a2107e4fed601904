"""Speed of a training step: padded to 1201, padded to the longest cell as the reference is, and packed as here.

    PYTHONPATH=src python benchmarks/train.py --shards results/blood-h5ad

takes the same batches of 32 cells through all layouts in one run, in turn. A step is what training does with a batch:
forward, both heads, backward, clipping, fused AdamW. Needs torch, lightning, numpy, pandas and pyarrow alone.

MFU is the share of the device's dense peak that the arithmetic on tokens would need, whatever a layout does beside it:
FLOPs of a cell of n tokens = 6*N*n + 12*L*d*n*n, N the parameters without the gene embedding, L layers of width d.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import inputs
import numpy as np
import torch
from torch import Tensor, nn

from censusformer.model import ModelConfig, Pretrainer, parameter_counts, squared_errors
from censusformer.tokens.cells import Cells
from censusformer.tokens.masking import training_mask
from censusformer.tokens.vocabulary import Vocabulary
from censusformer.training.batches import pack
from censusformer.training.padded import Padded, collate_padded
from censusformer.training.recipes import RECIPES, build_optimizer
from censusformer.training.window import epoch_order

MODELS = {
    "cpu-128": {"n_layers": 12, "d_model": 128, "n_heads": 4, "d_ff": 128},
    "blood-300k": {"n_layers": 12, "d_model": 512, "n_heads": 8, "d_ff": 512},
}
LAYOUTS = {
    "padded_1201": "(a) padded to 1201",
    "padded_longest": "(b) padded to the longest, nn.TransformerEncoder",
    "padded_longest_kept": "(b) without dropout of attention weights",
    "packed": "(c) packed: censusformer",
}
DENSE_PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}  # 16 bits, FLOP/s, vendor's
MAX_LENGTH = 1201


class Reference(Pretrainer):
    """The same weights in the layout of the reference: `nn.TransformerEncoder` over (cells, length), all positions."""

    def __init__(self, config: ModelConfig, *, drop_attention: bool = True) -> None:
        super().__init__(config)
        shape = config.d_model, config.n_heads, config.d_ff, config.dropout
        layer = nn.TransformerEncoderLayer(*shape, batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, config.n_layers, enable_nested_tensor=False)
        if not drop_attention:
            for one in self.transformer_encoder.layers:
                one.self_attn.dropout = 0.0

    def errors(self, padded: Padded) -> Tensor:
        """Sums of squared errors of both heads at masked positions: (2,)."""
        genes = self.encoder(padded.genes)
        tokens = genes + self.value_encoder(padded.values)
        tokens = self.transformer_encoder(tokens, src_key_padding_mask=padded.padding)
        gep = self.decoder(tokens, padded.genes)
        gepc = self.mvc_decoder(tokens[:, :1], genes, padded.genes)
        return torch.stack([((x.float() - padded.targets).square() * padded.mask).sum() for x in (gep, gepc)])


class Step:
    """One step of training in one layout."""

    def __init__(self, name: str, config: ModelConfig, weights: dict, args: argparse.Namespace) -> None:
        self.name, self.args = name, args
        self.device = torch.device(args.device)
        packed = name == "packed"
        model = Pretrainer(config) if packed else Reference(config, drop_attention=name != "padded_longest_kept")
        model.load_state_dict(weights)
        self.model = model.to(self.device).train()
        if packed:
            model.set_attention(args.attention)
        self.forward = torch.compile(model, dynamic=True) if packed and args.compile else model
        self.optimizer = build_optimizer(model, RECIPES["reference"], 1e-4)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=args.precision == "16")

    def prepare(self, cells: Cells, mask: np.ndarray, vocabulary: Vocabulary) -> list:
        """Lay the batch out, in parts where it would not fit into memory whole."""
        if self.name == "packed":
            return [pack(cells, mask, vocabulary.cls).batch(0, len(cells)).to(self.device)]
        long, longest = self.name == "padded_1201", int(cells.lengths.max()) + 1
        many = self.args.part_cells if long else len(cells)
        parts = []
        for start in range(0, len(cells), many):
            rows = np.arange(start, min(start + many, len(cells)))
            hidden = mask[cells.offsets[start] : cells.offsets[rows[-1] + 1]]
            padded = collate_padded(cells.take(rows), hidden, vocabulary, MAX_LENGTH if long else longest)
            parts.append(Padded(*(x.to(self.device) for x in padded)))
        return parts

    def errors(self, part) -> Tensor:
        """Sums of squared errors of both heads."""
        if self.name != "packed":
            return self.model.errors(part)
        return squared_errors(self.forward(part.packed, part.positions, part.cells), part.targets)

    def __call__(self, parts: list, n_masked: int) -> Tensor:
        """Take a step; returns the losses of both heads without waiting for the device."""
        self.optimizer.zero_grad()
        dtype = {"bf16": torch.bfloat16, "16": torch.float16}.get(self.args.precision)
        losses = []
        for part in parts:
            with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
                loss = self.errors(part) / n_masked
            self.scaler.scale(loss.sum()).backward()
            losses.append(loss.detach())
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return torch.stack(losses).sum(0)


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass
class Spent:
    """Seconds by the clock, seconds of the CPU, and the most bytes held meanwhile."""

    seconds: float
    cpu: float
    held: int | None


def timed(work: Callable[[], object], device: torch.device) -> Spent:
    """Time some work. Bytes are the device's; on a CPU those of this process in all (Linux alone)."""
    gc.collect()
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif clear.exists():
        clear.write_text("5")  # forgets the highest resident size
    synchronise(device)
    start, cpu = time.perf_counter(), time.process_time()
    work()
    synchronise(device)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    if device.type == "cuda":
        return Spent(seconds, cpu, torch.cuda.max_memory_allocated(device))
    lines = status.read_text().splitlines() if status.exists() else []
    peak = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")]
    return Spent(seconds, cpu, peak[0] if peak else None)


def peak_flops(device: torch.device, precision: str) -> tuple[float, str]:
    """The device's dense peak: the vendor's figure where it is known, else the fastest of some large matmuls."""
    if device.type == "cuda" and precision != "32":
        name = torch.cuda.get_device_name(device)
        for key, peak in DENSE_PEAK.items():
            if key in name:
                return peak, f"vendor's dense peak of {key}, 16 bits"
    size = 8192 if device.type == "cuda" else 1024
    dtype = {"bf16": torch.bfloat16, "16": torch.float16}.get(precision, torch.float32)
    a = torch.randn(size, size, device=device, dtype=dtype)
    seconds = min(timed(lambda: a @ a, device).seconds for _ in range(30))  # so many that one is undisturbed
    return 2 * size**3 / seconds, f"measured: matmul of {size}, {torch.get_num_threads()} threads"


def flops(lengths: np.ndarray, config: ModelConfig, n_parameters: int) -> float:
    """FLOPs of a step over cells of these numbers of tokens, `<cls>` included."""
    n = lengths.astype(float)
    return float((6 * n_parameters * n + 12 * config.n_layers * config.d_model * n**2).sum())


def batches_of(cells: Cells, vocabulary: Vocabulary, args: argparse.Namespace) -> list[tuple[Cells, np.ndarray]]:
    """The first batches of an epoch, with their masks."""
    order, size = epoch_order(cells.cell, 0, 0), args.batch_size
    chosen = [cells.take(order[i * size : (i + 1) * size]) for i in range(args.steps)]
    how = {"ratios": (0.25, 0.5, 0.75), "draw": "cell", "seed": 0, "epoch": 0}
    return [(part, training_mask(part, vocabulary.gene_words, **how)[0]) for part in chosen]


def same_loss(cells: Cells, mask: np.ndarray, vocabulary: Vocabulary, config: ModelConfig, weights: dict) -> float:
    """Relative difference between the losses of packed and padded, the same weights, no dropout, 32 bits."""
    one, two = Pretrainer(config), Reference(config)
    for model in (one, two):
        model.load_state_dict(weights)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            elif isinstance(module, nn.MultiheadAttention):
                module.dropout = 0.0
    batch = pack(cells, mask, vocabulary.cls).batch(0, len(cells))
    with torch.no_grad():
        packed = squared_errors(one(batch.packed, batch.positions, batch.cells), batch.targets)
        padded = two.errors(collate_padded(cells, mask, vocabulary, int(cells.lengths.max()) + 1))
    return float(((packed - padded).abs() / padded).max())


@dataclass
class Measured:
    """What a run measured: seconds and bytes of each layout by batch, and what they were measured on."""

    args: argparse.Namespace
    batches: list[tuple[Cells, np.ndarray]]
    config: ModelConfig
    n_parameters: int
    peak: tuple[float, str]
    spent: dict[str, list[Spent]]
    difference: float  # of the losses, packed against padded

    def row(self, name: str) -> dict:
        """One layout's line of the table."""
        spent = self.spent[name]
        total, held = sum(one.seconds for one in spent), [one.held for one in spent if one.held is not None]
        parts = [part for part, _ in self.batches[: len(spent)]]
        tokens = sum(part.n_tokens + len(part) for part in parts)
        work = sum(flops(part.lengths + 1, self.config, self.n_parameters) for part in parts)
        return {
            "layout": LAYOUTS[name],
            "cells/s": self.args.batch_size * len(parts) / total,
            "tokens/s": tokens / total,
            "ms a step": 1e3 * statistics.median(one.seconds for one in spent),
            "CPU ms": 1e3 * statistics.median(one.cpu for one in spent),
            "peak GB": max(held) / 1e9 if held else None,
            "MFU": work / total / self.peak[0],
        }

    def figures(self) -> dict:
        """What is printed below the table; ratios are medians over batches, with their range."""
        args, about = self.args, {}
        for name in args.layouts:
            if name != "packed" and "packed" in args.layouts:
                pairs = list(zip(self.spent[name], self.spent["packed"], strict=False))
                ratios = [other.seconds / ours.seconds for other, ours in pairs]
                about[f"ratio_vs_{name}"] = statistics.median(ratios)
                about[f"range_vs_{name}"] = f"{min(ratios):.1f} to {max(ratios):.1f}"
                about[f"cpu_ratio_vs_{name}"] = statistics.median(other.cpu / ours.cpu for other, ours in pairs)
        ours = self.row("packed" if "packed" in args.layouts else args.layouts[-1])
        lengths = np.concatenate([part.lengths + 1 for part, _ in self.batches])
        cuda = torch.device(args.device).type == "cuda"
        return {
            **about,
            "tokens_per_s": ours["tokens/s"],
            "cells_per_s": ours["cells/s"],
            "mfu": ours["MFU"],
            "mfu_by_cpu_seconds": None
            if cuda
            else ours["MFU"] * ours["ms a step"] / ours["CPU ms"] * torch.get_num_threads(),
            "formula": "FLOPs of a cell of n tokens = 6*N*n + 12*L*d*n^2; MFU = FLOPs / seconds / peak",
            "N": self.n_parameters,
            "L": self.config.n_layers,
            "d": self.config.d_model,
            "peak_flops": self.peak[0],
            "peak_is": self.peak[1],
            "loss_packed_against_padded": f"{self.difference:.1e}",
            "batch_size": args.batch_size,
            "steps": args.steps,
            "tokens_a_cell": f"mean {lengths.mean():.0f}, median {np.median(lengths):.0f}, longest {lengths.max()}",
            "device": torch.cuda.get_device_name() if cuda else "cpu",
            "threads": torch.get_num_threads(),
            "precision": args.precision,
            "compile": args.compile,
            "torch": torch.__version__,
        }


def measure(args: argparse.Namespace) -> Measured:
    """Time all layouts, one after the other on each batch."""
    cells, vocabulary = cells_of(args)
    config = ModelConfig(vocabulary.n_genes, **MODELS[args.model], dropout=0.2)
    torch.manual_seed(0)
    model = Pretrainer(config)
    weights, n_parameters = model.state_dict(), parameter_counts(model)["non_embedding"]
    batches, device = batches_of(cells, vocabulary, args), torch.device(args.device)
    few, mask = batches[0][0].take(np.arange(min(8, args.batch_size))), batches[0][1]
    difference = same_loss(few, mask[: len(few.genes)], vocabulary, config, weights)
    peak = peak_flops(device, args.precision)
    spent: dict[str, list[Spent]] = {name: [] for name in args.layouts}
    steps = {name: Step(name, config, weights, args) for name in args.layouts}
    for i, (part, mask) in enumerate([batches[0]] * args.warmup + batches):
        n_masked = int(mask.sum())
        for name, step in steps.items():
            if name == "padded_1201" and not args.warmup - args.long_warmup <= i < args.warmup + args.long_steps:
                continue
            ready = step.prepare(part, mask, vocabulary)
            one = timed(partial(step, ready, n_masked), device)
            if i >= args.warmup:
                spent[name].append(one)
    return Measured(args, batches, config, n_parameters, peak, spent, difference)


def cells_of(args: argparse.Namespace) -> tuple[Cells, Vocabulary]:
    """Training cells of the shards, or made up; settles the batch size."""
    if args.shards is None:
        vocabulary = inputs.made_up_vocabulary(20_000)
        cells = inputs.made_up_cells(max(4000, args.batch_size * args.steps), 123, vocabulary.n_genes)
    else:
        data, _ = inputs.read(args.shards)
        cells, vocabulary = data.train, data.vocabulary
    if args.tokens:
        args.batch_size = int(np.ceil(args.tokens / (cells.lengths.mean() + 1)))
    if len(cells) < args.steps * args.batch_size:
        raise SystemExit(f"{len(cells)} cells are too few for {args.steps} batches of {args.batch_size}")
    return cells, vocabulary


def arguments() -> argparse.Namespace:
    """Read the command line."""
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, help="folder of a data set, or its shards.json; without: made up cells")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--model", choices=list(MODELS), default="cpu-128")
    parser.add_argument("--batch-size", type=int, default=32, help="cells of a step")
    parser.add_argument("--tokens", type=int, help="cells of a step by their tokens, instead of --batch-size")
    parser.add_argument("--steps", type=int, default=3, help="batches that are timed")
    parser.add_argument("--warmup", type=int, default=1, help="batches before them")
    parser.add_argument("--long-steps", type=int, default=1 << 30, help="how many of them are padded to 1201, too")
    parser.add_argument("--long-warmup", type=int, default=1, help="the same of the batches before them")
    parser.add_argument("--layouts", nargs="+", choices=list(LAYOUTS), default=list(LAYOUTS))
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument("--precision", choices=["32", "bf16", "16"], default="bf16" if cuda else "32")
    parser.add_argument("--attention", default="auto", help="back end of the packed layout")
    parser.add_argument("--compile", action="store_true", help="the packed layout through torch.compile")
    parser.add_argument("--part-cells", type=int, default=32 if cuda else 4,
                        help="cells at once of the layout padded to 1201, gradients summed: spares memory")  # fmt: skip
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's choice)")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    args = arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.set_float32_matmul_precision("high")
    measured = measure(args)
    inputs.show([measured.row(name) for name in args.layouts], measured.figures(), args.json)


if __name__ == "__main__":
    main()
