"""Data of the benchmarks: shards from a folder, or cells made up; numbers printed as a table or as one JSON object."""

import json
from pathlib import Path

import numpy as np

from censusformer.hashing import splitmix64
from censusformer.tokens.cells import Categories, Cells
from censusformer.tokens.shards import read_split
from censusformer.tokens.vocabulary import Vocabulary
from censusformer.training.data import Data, read_data


def manifest_of(shards: Path) -> Path:
    """Return `shards.json` of a data set's folder, or the file itself; `vocab.json` lies beside it."""
    return shards / "shards.json" if shards.is_dir() else shards


def read(shards: Path) -> tuple[Data, Cells]:
    """Read training and validation cells, and the held-out samples' cells."""
    manifest = manifest_of(shards)
    vocabulary = Vocabulary.read(manifest.parent / "vocab.json")
    return read_data(manifest, vocabulary), read_split(manifest, "test", vocabulary)


def made_up_vocabulary(n_genes: int) -> Vocabulary:
    """Genes without meaning."""
    genes = tuple(f"ENSG{i:011d}" for i in range(n_genes))
    return Vocabulary(genes, genes, (1,) * n_genes)


def made_up_cells(n: int, mean: float, n_genes: int, n_samples: int = 20, seed: int = 0) -> Cells:
    """Make cells whose lengths are skewed as real ones are: log-normal, from 10 to 1200 tokens, `mean` on average.

    Cells of one sample lie together, as in shards; values are uniform over 1..50.
    """
    rng = np.random.default_rng(seed)
    lengths = rng.lognormal(0, 0.5, n)
    lengths = np.clip(np.rint(lengths * (mean / lengths.mean())), 10, min(1200, n_genes)).astype(np.int64)
    offsets = np.concatenate(([0], lengths.cumsum()))
    start = np.repeat(rng.integers(0, n_genes, n), lengths)
    genes = (start + np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)) % n_genes  # no gene twice in a cell
    values = rng.integers(1, 51, offsets[-1], dtype=np.uint8)
    key, sample = splitmix64(np.arange(n, dtype=np.uint64)), np.arange(n) * n_samples // n
    labels = Categories(sample.astype(np.int32), tuple(f"sample {i:03d}" for i in range(n_samples)))
    one = Categories(np.zeros(n, np.int32), ("made up",))
    return Cells(key, offsets, genes.astype(np.uint16), values, np.zeros(n, np.float32), labels, one, one)


def show(rows: list[dict], figures: dict, as_json: bool) -> None:
    """Print rows as a Markdown table and the figures below it, or all as one JSON object."""
    if as_json:
        print(json.dumps({**figures, "rows": rows}))
        return
    print(table(rows))
    for name, value in figures.items():
        print(f"{name}: {text(value)}")


def table(rows: list[dict]) -> str:
    """Rows of equal keys as a Markdown table."""
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(text(row[key]) for key in head) + " |" for row in rows])


def text(value: object) -> str:
    """A number with as many digits as it is good for."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else "-" if value is None else str(value)
