"""Whether what a model is tested on was also trained on: persons, cells, and copies of cells under other names."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from censusformer.hashing import splitmix64, to_hex

BLOCK_CELLS = 2**14
MOST_NAMED = 5  # persons or cells that are named


@dataclass(frozen=True)
class Side:
    """The cells of one split.

    Parameters
    ----------
    key
        uint64 (n,): the cells' keys.
    genes
        uint64 (n,): a hash of the set of genes that a cell shows as tokens (`hash_sets`).
    lengths
        int (n,): tokens of each cell.
    counts
        uint64 (n,): a hash of its raw counts; None where these were not given.
    """

    key: np.ndarray
    genes: np.ndarray
    lengths: np.ndarray
    counts: np.ndarray | None = None


def hash_sets(offsets: np.ndarray, genes: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Hash each cell's set of genes, whatever their order: the sum of its genes' mixed words, uint64 (n,).

    Cells in blocks, so that little more than the tokens themselves is in memory.
    """
    mixed, hashed = splitmix64(words), np.empty(len(offsets) - 1, np.uint64)
    for first in range(0, len(hashed), BLOCK_CELLS):
        at = offsets[first : first + BLOCK_CELLS + 1]
        total = np.zeros(at[-1] - at[0] + 1, np.uint64)
        np.cumsum(mixed[genes[at[0] : at[-1]]], out=total[1:])  # sums and differences modulo 2**64
        hashed[first : first + BLOCK_CELLS] = np.diff(total[at - at[0]])
    return hashed


def persons(status: Sequence[str], people: Sequence[str] | None) -> dict[str, Any]:
    """Persons of training and of test samples, and those that stand on both sides.

    Parameters
    ----------
    status
        `train`, `test` or `out` of each sample.
    people
        The persons of each sample, several with `; ` between; None where they are not recorded.
    """
    if people is None:
        return {"recorded": False, "train": None, "test": None, "shared": []}
    sides: dict[str, set[str]] = {"train": set(), "test": set(), "out": set()}
    for side, names in zip(status, people, strict=True):
        sides[side] |= set(names.split("; "))
    train, test = sides["train"], sides["test"]
    return {"recorded": True, "train": len(train), "test": len(test), "shared": sorted(train & test)}


def names(train: Iterable[str], test: Iterable[str]) -> dict[str, Any]:
    """Names of training and of test samples, and those on both sides."""
    train, test = set(train), set(test)
    return {"train": len(train), "test": len(test), "shared": sorted(train & test)}


def cells(sides: Mapping[str, Side]) -> list[dict[str, Any]]:
    """Compare each two splits, cell by cell.

    Returns
    -------
    For each two: `one`, `other`, `n` (cells of each), and how many of the other's cells have a cell in the one with
    the same key, the same raw counts (null where these are not known) and the same set of genes; `longest`, the tokens
    of the longest such set; `named`, keys of some cells with the same key or counts.
    """
    return [
        _compare(a, b, sides[a], sides[b]) for a, b in combinations(sides, 2) if len(sides[a].key) and len(sides[b].key)
    ]


def _compare(one: str, other: str, a: Side, b: Side) -> dict[str, Any]:
    same_key, same_genes = np.isin(b.key, a.key), np.isin(b.genes, a.genes)
    known = a.counts is not None and b.counts is not None
    same_counts = np.isin(b.counts, a.counts) if known else np.zeros(len(b.key), bool)
    return {
        "one": one,
        "other": other,
        "n": [len(a.key), len(b.key)],
        "same_key": int(same_key.sum()),
        "same_counts": int(same_counts.sum()) if known else None,
        "same_genes": int(same_genes.sum()),
        "longest": int(b.lengths[same_genes].max(initial=0)),
        "named": to_hex(np.sort(b.key[same_key | same_counts])[:MOST_NAMED]),
    }


def refusal(found: Mapping[str, Any]) -> str | None:
    """Why a model must not be evaluated on these data, in words: a person or a cell stands on both sides."""
    for what in ("persons", "samples"):
        if shared := found.get(what, {}).get("shared"):
            more = f" and {len(shared) - MOST_NAMED} more" if len(shared) > MOST_NAMED else ""
            return f"{', '.join(shared[:MOST_NAMED])}{more}: {what} of both training and test"
    for pair in found["cells"]:
        if pair["same_key"]:
            return (
                f"{pair['same_key']:,} cells (such as {', '.join(pair['named'])}) are in both {pair['one']} and "
                f"{pair['other']}"
            )
    return None


def copies(found: Mapping[str, Any]) -> list[str]:
    """Sentences about copies: cells of two splits with other names and the same raw counts."""
    return [
        f"{pair['same_counts']:,} of {pair['n'][1]:,} {pair['other']} cells have exactly the raw counts of a cell in "
        f"{pair['one']} (such as {', '.join(pair['named'])}): copies under other names, which make the task easier"
        for pair in found["cells"] if pair["same_counts"]
    ]  # fmt: skip
