"""The vocabulary: kept genes in their order, then `<cls>` and `<pad>`."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from censusformer.errors import InputError
from censusformer.files import atomic, check_checksum, with_checksum
from censusformer.hashing import words

CLS_VALUE = 0
MASK_VALUE = -1
PAD_VALUE = -2


def sha256_of(gene_ids: Iterable[str]) -> str:
    """Return a vocabulary's digest: over the ordered gene ids alone, so that names or counts may change."""
    return hashlib.sha256("\n".join(gene_ids).encode()).hexdigest()


@dataclass(frozen=True)
class Vocabulary:
    """Gene ids 0..n_genes-1 in the order of `genes.parquet`, and two tokens that are no genes.

    Parameters
    ----------
    genes
        Ensembl ids without version, in order.
    names
        Gene symbols, in the same order.
    n_samples
        The number of samples that selected each gene as highly variable.
    path
        Where it was read from, for messages.
    """

    genes: tuple[str, ...]
    names: tuple[str, ...]
    n_samples: tuple[int, ...]
    path: Path | None = field(default=None, compare=False, repr=False)

    def __post_init__(self):
        if len(set(self.genes)) != len(self.genes):
            raise InputError(f"{self.path or 'vocabulary'}: a gene id stands twice in `genes`")
        if not len(self.genes) == len(self.names) == len(self.n_samples):
            raise InputError(f"{self.path or 'vocabulary'}: `genes`, `names` and `n_samples` differ in length")

    @property
    def n_genes(self) -> int:
        """The number of genes, without `<cls>` and `<pad>`."""
        return len(self.genes)

    @property
    def cls(self) -> int:
        """The token id of `<cls>`."""
        return self.n_genes

    @property
    def pad(self) -> int:
        """The token id of `<pad>`."""
        return self.n_genes + 1

    @property
    def size(self) -> int:
        """The number of token ids: genes, `<cls>` and `<pad>`."""
        return self.n_genes + 2

    @cached_property
    def sha256(self) -> str:
        """The digest of the ordered gene ids, which shards and models carry."""
        return sha256_of(self.genes)

    @cached_property
    def gene_words(self) -> np.ndarray:
        """The word of each gene, uint64 (n_genes,): what draws hang on."""
        return words(self.genes)

    def most_selected(self, n: int) -> np.ndarray:
        """The genes that most samples selected, at most n, among those that any did; ties go to the lower id.

        A trained model knows these genes best: they are what it reads of cells that belong to none of its samples.

        Returns
        -------
        int64 (k,), gene ids, rising.
        """
        counts = np.asarray(self.n_samples, np.int64)
        order = np.argsort(-counts, kind="stable")[:n]
        return np.sort(order[counts[order] > 0])

    def to_json(self) -> str:
        """Return the text of `vocab.json`."""
        content = {
            "cls": self.cls,
            "pad": self.pad,
            "sha256": self.sha256,
            "genes": list(self.genes),
            "names": list(self.names),
            "n_samples": list(self.n_samples),
        }
        return json.dumps(with_checksum(content), ensure_ascii=False, indent=0) + "\n"

    def write(self, path: str | Path) -> None:
        """Write `vocab.json`."""
        with atomic(path) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def read(cls, path: str | Path) -> "Vocabulary":
        """Read `vocab.json`.

        Raises
        ------
        InputError
            Where the file is no vocabulary, is damaged, or its digest is not that of its genes.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except ValueError as error:
            raise InputError(f"{path} is not a vocabulary ({error!r}): delete it and run snakemake again") from error
        return cls.from_json(text, path)

    @classmethod
    def from_json(cls, text: str, path: Path) -> "Vocabulary":
        """Take the text of `vocab.json`, which stands in `path`: such a file, or a model.

        Raises
        ------
        InputError
            As `read`.
        """
        try:
            content = json.loads(text)
            check_checksum(content)
            columns = (tuple(content[key]) for key in ("genes", "names", "n_samples"))
            vocabulary, digest = cls(*columns, path=path), content["sha256"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is not a vocabulary ({error!r}): delete it and run snakemake again") from error
        if vocabulary.sha256 != digest:
            raise InputError(f"{path}: its `sha256` is not that of its genes: delete it and run snakemake again")
        return vocabulary
