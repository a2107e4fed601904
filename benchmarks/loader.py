"""Cells a second and core that the loader makes ready, and how well it shuffles.

    PYTHONPATH=src python benchmarks/loader.py [--shards results/blood-h5ad]

measures two loaders on the same cells: everything decoded in memory, and a window over shards where not all fit. Each
is timed without masks (packed batches, as loaders are usually compared) and with the masks of training, per CPU second
of this process; for the window that includes reading, decoding and checking. Without --shards, 100,000 made up cells of
317 tokens on average, in 40 shards of 2 samples each. Needs torch, lightning, numpy, pandas and pyarrow alone; --others
adds rows for scDataset, Hugging Face datasets and torchdata where they are installed (other_loaders.py).

Shuffle entropy: of the samples in a batch of 64, mean over batches, in bits; ideal: of batches drawn at random.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import inputs
import numpy as np
import torch
from other_loaders import others

from censusformer.tokens.cells import Cells, Sequences, sequences
from censusformer.tokens.shards import ShardMeta, file_sha256, read_manifest, write_shard
from censusformer.tokens.vocabulary import Vocabulary
from censusformer.training.batches import Batch, TrainingBatches, block_of, blocks_of
from censusformer.training.settings import MaskSettings
from censusformer.training.window import Window, decoded_bytes, epoch_order, open_shards

BATCH = 64
BLOCK = 4 * BATCH
NOTHING = np.empty(0, np.int64)


def write(folder: Path, cells: Cells, vocabulary: Vocabulary, n_shards: int = 40) -> None:
    """Write made up cells as a data set of shards, rows shuffled."""
    folder.mkdir(parents=True, exist_ok=True)
    meta, files = ShardMeta(51, 1201, vocabulary.sha256), []
    for i, rows in enumerate(np.array_split(np.arange(len(cells)), n_shards)):
        part = cells.take(np.random.default_rng(i).permutation(rows))
        path = folder / f"made-up-{i:03d}.parquet"
        write_shard(path, part, meta)
        about = {"path": path.name, "rows": len(part), "tokens": len(part.genes), "sha256": file_sha256(path)}
        files.append({**about, "dropped": 0})
    content = {"schema_version": 1, "n_bins": 51, "max_length": 1201, "vocab_sha256": vocabulary.sha256}
    splits = {"train": {"files": files}, "valid": {"files": []}, "test": {"files": []}}
    (folder / "shards.json").write_text(json.dumps({**content, "splits": splits}))
    vocabulary.write(folder / "vocab.json")


def unmasked(blocks: Iterator[Sequences]) -> Iterator[Batch]:
    """Packed batches of which nothing is asked."""
    for cells in blocks:
        block = block_of(cells, NOTHING, np.zeros(len(cells), np.int64))
        yield from (block.batch(start, min(start + BATCH, len(cells))) for start in range(0, len(cells), BATCH))


def in_memory(cells: Cells, cls: int) -> Iterator[Sequences]:
    """An epoch in blocks, from flat arrays."""
    order = epoch_order(cells.cell, 0, 0)
    return (sequences(cells, order[i : i + BLOCK], cls) for i in range(0, len(order), BLOCK))


def rate(batches: Callable[[], Iterator[Batch]], repeats: int) -> float:
    """Cells a CPU second over an epoch, the best of some."""
    return fastest(lambda: (batch.n_cells for batch in batches()), repeats)


def fastest(numbers: Callable[[], Iterator[int]], repeats: int) -> float:
    """The same of an epoch that says how many cells each batch has."""
    best = 0.0
    for _ in range(repeats):
        start = time.process_time()
        n = sum(numbers())
        best = max(best, n / (time.process_time() - start))
    return best


def beside(cells: Cells, n_genes: int, repeats: int) -> list[dict]:
    """Rows of the other loaders; why one is missing goes to stderr."""
    rows = []
    for name, loader in others(cells, n_genes, BATCH).items():
        if isinstance(loader, str):
            print(f"{name}: {loader}", file=sys.stderr)
            continue
        found = fastest(loader, repeats)
        rows.append({"loader": name, "cells/s a core": found, "with masks": None, "shuffle entropy": None})
    return rows


def entropy(blocks: Iterator[Sequences], sample_of: dict[int, int]) -> float:
    """Mean entropy of the samples in a batch, in bits; a last batch that is not full is left out."""
    labels = np.concatenate([[sample_of[key] for key in cells.cell.tolist()] for cells in blocks])
    return batch_entropy(labels)


def batch_entropy(labels: np.ndarray) -> float:
    """The same from one sample a cell, in the order of the epoch."""
    whole = labels[: len(labels) // BATCH * BATCH].reshape(-1, BATCH)
    shares = [np.unique(row, return_counts=True)[1] / BATCH for row in whole]
    return float(np.mean([-(p * np.log2(p)).sum() for p in shares]))


def resident() -> float:
    """GB that this process holds now, on Linux."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * resource.getpagesize() / 1e9 if status.exists() else float("nan")


def window_of(manifest: Path, vocabulary: Vocabulary, memory: float | None, fraction: float) -> tuple[Window, float]:
    """A window of `memory` GB, or one that holds a fraction of the shards' bytes; and its GB."""
    about = read_manifest(manifest)
    files = [file for file in about["splits"]["train"]["files"] if file["rows"]]
    if memory is None:
        sizes = [decoded_bytes(file, vocabulary.n_genes, about["n_bins"]) for file in files]
        memory = max(fraction * sum(sizes), 5.01 * max(sizes)) / 1e9
    n_open = open_shards(files, vocabulary.n_genes, about["n_bins"], memory)
    return Window(manifest, tuple(files), vocabulary, n_open), memory


def grows(window: Window) -> tuple[float, float]:
    """GB that the process holds after a tenth of the window's epoch, and the most from there to its end."""
    held, done = [], 0
    for batch in TrainingBatches(window, window.vocabulary, MaskSettings(), BATCH, 0).epoch(0):
        done += batch.n_cells
        if done > len(window) / 10:
            held.append(resident())
    return held[0], max(held)


def measure(manifest: Path, cells: Cells, vocabulary: Vocabulary, args: argparse.Namespace) -> tuple[list[dict], dict]:
    """Time both loaders; returns the rows of the table and the figures beside it."""
    window, memory = window_of(manifest, vocabulary, args.memory, 0.5)
    sample_of = dict(zip(cells.cell.tolist(), cells.sample.codes.tolist(), strict=True))
    rows = []

    def pieces() -> Iterator[Sequences]:
        return blocks_of(window.pieces(0, 0), BLOCK)

    moving = f"window of {window.n_open} of {len(window.files)} shards"
    for name, source, blocks in (
        ("in memory", cells, lambda: in_memory(cells, vocabulary.cls)),
        (moving, window, lambda: blocks_of(window.pieces(0, 0), BLOCK)),
    ):
        training = TrainingBatches(source, vocabulary, MaskSettings(), BATCH, 0)
        rows.append({
            "loader": name,
            "cells/s a core": rate(lambda blocks=blocks: unmasked(blocks()), args.repeats),
            "with masks": rate(lambda training=training: training.epoch(0), args.repeats),
            "shuffle entropy": entropy(blocks(), sample_of),
        })  # fmt: skip
    if args.others:
        rows += beside(cells, vocabulary.n_genes, args.repeats)
    early, most = grows(window)
    shuffled = np.random.default_rng(0).permutation(cells.sample.codes)
    figures = {
        "cells_per_s_per_core": rows[0]["cells/s a core"],
        "cells_per_s_per_core_with_masks": rows[0]["with masks"],
        "shuffle_entropy": rows[0]["shuffle entropy"],
        "ideal_entropy": batch_entropy(shuffled),
        "window_cells_per_s_per_core": rows[1]["cells/s a core"],
        "window_cells_per_s_per_core_with_masks": rows[1]["with masks"],
        "window_shuffle_entropy": rows[1]["shuffle entropy"],
        "window_memory_gb": memory,
        "window_resident_gb": f"{early:.3f} after a tenth of the epoch, {most:.3f} at most from there on",
        "cells": len(cells),
        "tokens_a_cell": cells.n_tokens / len(cells),
        "numpy": np.__version__,
    }
    return rows, figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, help="folder of a data set, or its shards.json; without: made up cells")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--cells", type=int, default=100_000, help="made up cells")
    parser.add_argument("--memory", type=float, help="GB of the window (default: half of the shards, decoded)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--others", action="store_true", help="measure other loaders, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.shards is not None:
        manifest = inputs.manifest_of(args.shards)
        data, _ = inputs.read(manifest)
        inputs.show(*measure(manifest, data.train, data.vocabulary, args), args.json)
        return
    vocabulary = inputs.made_up_vocabulary(20_000)
    cells = inputs.made_up_cells(args.cells, 317, vocabulary.n_genes, n_samples=80)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), cells, vocabulary)
        inputs.show(*measure(Path(folder) / "shards.json", cells, vocabulary, args), args.json)


if __name__ == "__main__":
    main()
