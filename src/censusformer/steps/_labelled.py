"""Labelled cells of one's own: tokens, raw counts, labels and persons; and which persons are held out when."""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from censusformer.errors import InputError
from censusformer.hashing import draw, to_hex, word, words
from censusformer.steps._counts import Source
from censusformer.steps._own import UNKNOWN, OwnCells
from censusformer.tokens.cells import Cells

logger = logging.getLogger("censusformer")

_FOLD = word("censusformer finetune: fold of a person")
AUTO, NONE = "auto", "none"
PERSON_COLUMNS = ("person", "donor_id")
GROUPS = 20  # of cells, where persons are not known


@dataclass(frozen=True)
class Labelled:
    """Cells that have a label.

    Parameters
    ----------
    cells
        Tokenised, (n,).
    counts
        Raw counts of all genes, (n, n_genes).
    labels, persons
        Text, (n,).
    names
        Names of the cells in the file, (n,).
    """

    cells: Cells
    counts: sparse.csr_matrix
    labels: np.ndarray
    persons: np.ndarray
    names: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def read_labelled(
    own: OwnCells,
    label: str,
    person: str | None = AUTO,
    ignore: tuple[str, ...] = (UNKNOWN,),
    *,
    key: str = "finetune.label",
) -> Labelled:
    """Read the cells that have a label.

    Parameters
    ----------
    own
        The file's cells.
    label
        The column of obs that holds it.
    person
        The column that names persons: `auto` takes `person`, else `donor_id`; `none` splits by cell. None: they do not
        matter.
    ignore
        Labels that are none; empty ones never are.
    key
        The setting that names the column, for messages.

    Raises
    ------
    InputError
        Where a column is missing, or no cell has a label.
    """
    source = own.source
    labels = _column(source, label, key)
    kept = ~np.isin(labels, ["", "nan", "None", *ignore])
    if not kept.any():
        raise InputError(f"{source.name}: no cell has a label in obs.{label} but {', '.join(map(repr, ignore))}")
    persons = np.full(len(own), "", object) if person is None else _persons(own, person)
    cells, blocks, first = own.read().take(kept), [], 0
    for block in source.blocks():
        blocks.append(block[kept[first : first + block.shape[0]]])
        first += block.shape[0]
    names = source.obs.index.to_numpy(object)
    logger.info("%s: %d of %d cells have a label; %s", source.name, kept.sum(), len(kept), own.coverage)
    return Labelled(cells, sparse.vstack(blocks, "csr"), labels[kept], persons[kept], names[kept])


def _column(source: Source, name: str, key: str) -> np.ndarray:
    if name not in source.obs:
        some = ", ".join(source.obs.columns[:8])
        raise InputError(f"{source.name}: obs has no column {name!r} ({key}); it has {some or 'none'}")
    column = source.obs[name].astype(object)
    return column.where(pd.notna(column), "").astype(str).to_numpy(object)


def _persons(own: OwnCells, person: str) -> np.ndarray:
    source = own.source
    if person == AUTO:
        person = next((name for name in PERSON_COLUMNS if name in source.obs), NONE)
    if person == NONE:
        logger.warning("%s: split by cell, not by person: scores say nothing about persons never seen", source.name)
        return np.array(to_hex(own.cell % np.uint64(GROUPS)), object)
    return _column(source, person, "finetune.person")


def folds_of(persons: np.ndarray, n: int) -> np.ndarray:
    """The fold of each cell, int64: persons in the order of their hash, dealt out in turn; none stands in two.

    Raises
    ------
    InputError
        Where there are fewer than three persons: one to learn from, one to stop by, one to measure.
    """
    people, of = np.unique(persons.astype(str), return_inverse=True)
    if len(people) < 3:
        raise InputError(
            f"the labelled cells are of {len(people)} person ({', '.join(people)}): three are needed to learn from, to "
            "stop by and to measure; name another column (finetune.person), or 'none' to split by cell"
        )
    order = np.argsort(draw(_FOLD, words(people.tolist())), kind="stable")
    fold = np.empty(len(people), np.int64)
    fold[order] = np.arange(len(people)) % min(n, len(people))
    return fold[of]
