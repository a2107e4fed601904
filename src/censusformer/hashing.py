"""The draws: every random choice is a hash of what it concerns, never a stream of random numbers.

A draw then depends on nothing but its own words: not on the order of cells or genes, on chunks, shards, devices, nor on
where a run was resumed.
"""

import hashlib
from collections.abc import Iterable

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


def splitmix64(x):
    """One step of splitmix64 (Steele, Lea and Flood 2014) on uint64 arrays; scalars inside numba kernels alike."""
    z = x + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * _MIX1
    z = (z ^ (z >> np.uint64(27))) * _MIX2
    return z ^ (z >> np.uint64(31))


def splitmix64_inplace(z: np.ndarray) -> np.ndarray:
    """Do the same to a uint64 array itself, without the seven arrays between: for many millions of tokens."""
    z += _GOLDEN
    shifted = z >> np.uint64(30)
    z ^= shifted
    z *= _MIX1
    z ^= np.right_shift(z, np.uint64(27), out=shifted)
    z *= _MIX2
    z ^= np.right_shift(z, np.uint64(31), out=shifted)
    return z


def draw(*words: int | np.ndarray) -> np.ndarray:
    """hash(a, b, ...): splitmix64 chained over 64-bit words in the order named; words broadcast.

    Parameters
    ----------
    words
        Non-negative integers below 2**64, or uint64 arrays.

    Returns
    -------
    uint64 array of the broadcast shape (at least one-dimensional).
    """
    h = np.zeros(1, np.uint64)
    for word in words:
        h = splitmix64(h ^ np.asarray(word, np.uint64))
    return h


def uniform(h: np.ndarray) -> np.ndarray:
    """Hashes as float64 in [0, 1)."""
    return (h >> np.uint64(11)).astype(np.float64) * 2.0**-53


def word(text: str) -> int:
    """The first 8 bytes, big-endian, of the text's sha256."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def words(texts: Iterable[str]) -> np.ndarray:
    """`word` of each text, as a uint64 array: of gene ids, the words of genes."""
    return np.array([word(text) for text in texts], np.uint64)


def cell_keys(dataset_ids: Iterable[str], names: Iterable[str]) -> np.ndarray:
    """A cell's key: the word of `{dataset_id}:{observation_joinid}`, the same in every Census release."""
    return words(f"{dataset_id}:{name}" for dataset_id, name in zip(dataset_ids, names, strict=True))


def to_hex(keys: np.ndarray) -> list[str]:
    """Keys as 16 hexadecimal digits: how they stand in JSON, in an h5ad's index and on pages."""
    return [f"{key:016x}" for key in np.asarray(keys, np.uint64).tolist()]


def from_hex(texts: Iterable[str]) -> np.ndarray:
    """The way back from `to_hex`, as uint64."""
    return np.array([int(text, 16) for text in texts], np.uint64)
