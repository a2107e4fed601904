"""Removes or raises a gene in cells of an h5ad file, in the model alone: which genes and which cell states move.

Writes `genes.parquet`, `states.parquet` and `perturbation.json`. Beside each move stands what the same does with other
genes, which as many cells show.
"""

import argparse
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from censusformer.errors import InputError
from censusformer.evaluation.perturbation import matched, p_values, q_values, toward
from censusformer.files import atomic
from censusformer.hashing import draw, word
from censusformer.steps._options import add_reading_arguments, whole_number
from censusformer.steps._tables import write_table
from censusformer.tokens.cells import Cells
from censusformer.tokens.edit import raised, shows, without

if TYPE_CHECKING:
    from censusformer.model import Pretrainer
    from censusformer.steps._own import Reading
    from censusformer.tokens.vocabulary import Vocabulary

logger = logging.getLogger("censusformer")
_CHOSEN = word("censusformer perturb: cells")
FEWEST = 10  # cells that a perturbation needs, and a state


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this step."""
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="PT", help="the pretrained model (best_model.pt)")
    add("--h5ad", type=Path, required=True, metavar="FILE", help="cells with raw counts")
    add("--gene", required=True, help="symbol or Ensembl id of the gene")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the tables")
    add_reading_arguments(parser)
    add("--perturb-effect", choices=["remove", "raise"], default="remove", help="take the gene out of the cells that "
        "show it, or set it to the highest bin in those that do not (default: remove)")  # fmt: skip
    add("--perturb-state", default="cell_type", metavar="COLUMN", help="of obs: cell states (default: cell_type)")
    add("--perturb-cells", type=whole_number(FEWEST), default=500, help="cells for each gene, at most (default: 500)")
    add("--perturb-draws", type=whole_number(19), default=49, help="other genes to compare with (default: 49)")
    add("--threads", type=int, help="CPU threads of PyTorch (default: 1 for models narrower than 128)")


@dataclass(frozen=True)
class Moves:
    """What one perturbation does.

    Parameters
    ----------
    genes
        float (k,): mean change of the predicted bin (GEPC) of each gene that the model reads.
    states
        float (s,): mean length of the cells' move in each state; NaN below 10 cells.
    mean
        float (s, d): mean move of the cells of each state.
    n_cells
        int (s,).
    """

    genes: np.ndarray
    states: np.ndarray
    mean: np.ndarray
    n_cells: np.ndarray


@dataclass(frozen=True)
class Ground:
    """What all perturbations start from: cells, their embeddings, their states by number, and the highest bin."""

    cells: Cells
    vectors: np.ndarray
    state: np.ndarray
    names: tuple[str, ...]
    top: int


def run(args: argparse.Namespace) -> None:
    """Perturb one gene, then others in its place."""
    from censusformer.steps._counts import open_file
    from censusformer.steps._labelled import read_labelled
    from censusformer.steps._model import load
    from censusformer.steps._own import OwnCells
    from censusformer.training import embed_cells, set_threads

    model = load(args.model)
    set_threads(model.module.config.d_model, args.threads)
    gene = gene_of(args.gene, model.reading.vocabulary, model.reading.genes)
    own = OwnCells(open_file(args.h5ad, args.layer), model.reading, args.min_coverage)
    data = read_labelled(own, args.perturb_state, None, key="perturb.state")
    names, state = np.unique(data.labels.astype(str), return_inverse=True)
    ground = Ground(
        data.cells, embed_cells(model.module, data.cells), state, tuple(names.tolist()), model.reading.n_bins - 1
    )
    n_cells = np.bincount(data.cells.genes, minlength=model.module.config.n_genes)
    others = matched(n_cells, gene, model.reading.genes, args.perturb_draws)
    seen = moves(model.module, ground, gene, args, model.reading.genes)
    if seen is None:
        raise InputError(f"{args.h5ad}: fewer than {FEWEST} cells can have {args.gene} {args.perturb_effect}d")
    null = [found for k in others if (found := moves(model.module, ground, k, args, model.reading.genes)) is not None]
    if not null:
        raise InputError(f"{args.h5ad}: no other gene can be compared with {args.gene}; take more cells")
    tables = gene_table(model.reading, gene, seen, null), state_table(ground, seen, null)
    vocabulary = model.reading.vocabulary
    about = {"gene": vocabulary.genes[gene], "name": vocabulary.names[gene], "effect": args.perturb_effect}
    _write(args.out, *tables, {**about, "cells": int(seen.n_cells.sum()), "compared_with": len(null)})


def gene_of(name: str, vocabulary: "Vocabulary", listed: np.ndarray) -> int:
    """The id of a gene, by symbol or Ensembl id.

    Raises
    ------
    InputError
        Where the model does not know it, or does not read it.
    """
    known = [i for i, pair in enumerate(zip(vocabulary.genes, vocabulary.names, strict=True)) if name in pair]
    if not known:
        raise InputError(f"--gene {name}: none of the model's {vocabulary.n_genes} genes has this symbol or Ensembl id")
    read = np.intersect1d(known, listed)
    if not len(read):
        raise InputError(f"--gene {name} is none of the {len(listed)} genes that the model reads of a cell")
    return int(read[0])


def moves(model: "Pretrainer", ground: Ground, gene: int, args: argparse.Namespace, genes: np.ndarray) -> Moves | None:
    """Perturb one gene in the cells where it can be, a hashed choice of them; None below 10 cells."""
    from censusformer.training import embed_cells

    remove = args.perturb_effect == "remove"
    can = np.flatnonzero(shows(ground.cells, gene) == remove)
    order = np.argsort(draw(_CHOSEN, ground.cells.cell[can]), kind="stable")
    rows = np.sort(can[order[: args.perturb_cells]])
    if len(rows) < FEWEST:
        return None
    cells = ground.cells.take(rows)
    changed = without(cells, gene) if remove else raised(cells, gene, ground.top)
    move = embed_cells(model, changed) - ground.vectors[rows]
    state, n = ground.state[rows], len(ground.names)
    n_cells = np.bincount(state, minlength=n)
    mean = np.stack([move[state == s].mean(0) if n_cells[s] else np.zeros(move.shape[1]) for s in range(n)])
    length = np.bincount(state, np.linalg.norm(move, axis=1), n) / np.maximum(1, n_cells)
    length = np.where(n_cells >= FEWEST, length, np.nan)
    return Moves(predicted_changes(model, move.mean(0), genes), length, mean, n_cells)


def predicted_changes(model: "Pretrainer", move: np.ndarray, genes: np.ndarray) -> np.ndarray:
    """Change of the bins that GEPC predicts where the cell's embedding moves: its prediction is linear in that.

    Parameters
    ----------
    model
        A pretrained model.
    move
        float32 (d,).
    genes
        int (k,).

    Returns
    -------
    float (k,).
    """
    import torch

    with torch.inference_mode():
        device = next(model.parameters()).device
        vectors = model.encoder(torch.as_tensor(genes, device=device))
        query = model.mvc_decoder.W(torch.sigmoid(model.mvc_decoder.gene2query(vectors)))
        return (query @ torch.as_tensor(move, dtype=query.dtype, device=device)).cpu().numpy().astype(np.float64)


def gene_table(reading: "Reading", gene: int, seen: Moves, null: list[Moves]) -> pd.DataFrame:
    """The other genes by how far they move."""
    vocabulary, genes = reading.vocabulary, reading.genes
    drawn = np.stack([other.genes for other in null])
    p = p_values(seen.genes, drawn)
    frame = pd.DataFrame(
        {
            "feature_id": [vocabulary.genes[i] for i in genes.tolist()],
            "feature_name": [vocabulary.names[i] for i in genes.tolist()],
            "change": seen.genes,
            "expected": np.abs(drawn).mean(0),
            "p": p,
        }
    )[genes != gene]
    frame["q"] = q_values(frame["p"].to_numpy())
    return frame.sort_values(["p", "change"], key=lambda x: -x.abs() if x.name == "change" else x, ignore_index=True)


def state_table(ground: Ground, seen: Moves, null: list[Moves]) -> pd.DataFrame:
    """Cell states by how far their cells move, and where to."""
    drawn = np.stack([other.states for other in null])
    centroids = np.stack([ground.vectors[ground.state == s].mean(0) for s in range(len(ground.names))])
    ways = [toward(seen.mean[s], centroids[s], centroids) for s in range(len(ground.names))]
    frame = pd.DataFrame(
        {
            "state": ground.names,
            "n_cells": seen.n_cells,
            "move": seen.states,
            "expected": [_mean(column) for column in drawn.T],
            "p": p_values(seen.states, drawn),
            "toward": [ground.names[k] if k >= 0 else "" for k, _ in ways],
            "cosine": [cosine for _, cosine in ways],
        }
    )
    return frame.sort_values("move", ascending=False, ignore_index=True, na_position="last")


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _write(out: Path, genes: pd.DataFrame, states: pd.DataFrame, about: dict[str, Any]) -> None:
    for name, frame in (("genes", genes), ("states", states)):
        write_table(out / f"{name}.parquet", pa.Table.from_pandas(frame, preserve_index=False))
    with atomic(out / "perturbation.json") as temporary:
        temporary.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    top = ", ".join(f"{row.feature_name} {row.change:+.2f} (p {row.p:.2f})" for row in genes.head(8).itertuples())
    logger.info("%s, %s, in %d cells: %s", about["name"], about["effect"], about["cells"], top)
    for row in states.dropna(subset=["move"]).itertuples():
        logger.info("%s: moves %.3f, other genes %.3f (p %.2f), toward %s (cosine %.2f)",
                    row.state, row.move, row.expected, row.p, row.toward, row.cosine)  # fmt: skip
