"""A fine-tuned model with classes, its file, and its predictions for cells of one's own."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from censusformer.errors import InputError
from censusformer.evaluation.annotation import probabilities
from censusformer.model import ModelConfig, Pretrainer
from censusformer.steps._counts import AUTO, of_adata
from censusformer.steps._own import MIN_COVERAGE, UNKNOWN, OwnCells, Reading
from censusformer.training import checkpoints
from censusformer.training.embedding import embed_cells
from censusformer.training.finetuning import Finetuned, FinetuneSettings, Job, scaled_head
from censusformer.training.tasks import task_of

if TYPE_CHECKING:
    import anndata

KIND = "finetuned"
OF_MODEL = ("vocab_sha256", "vocabulary", "binning", "n_bins", "max_length", "epoch", "step", "valid", "args")


@dataclass(frozen=True)
class Annotator:
    """Labels cells, and says `unknown` where it is not sure.

    Parameters
    ----------
    path
        Its file.
    encoder, head
        What it computes with, in evaluation mode.
    reading
        How it reads cells.
    about
        What else its file says: `label`, `classes`, `temperature`, `unknown`.
    """

    path: Path
    encoder: Pretrainer
    head: nn.Module
    reading: Reading
    about: Mapping[str, Any]

    def predict(
        self,
        adata: "anndata.AnnData",
        *,
        unknown: float | None = None,
        layer: str = AUTO,
        min_coverage: float = MIN_COVERAGE,
    ) -> np.ndarray:
        """Label the cells of an AnnData: `obs["censusformer_{label}"]` and its confidence beside it.

        Parameters
        ----------
        adata
            Cells with raw counts, as `Model.embed` takes them.
        unknown
            Confidence below which a cell is `unknown`; by default that of the file.
        layer, min_coverage
            As `Model.embed` has them.

        Returns
        -------
        The labels, object (n,).
        """
        parts = list(self.labelled(OwnCells(of_adata(adata, layer), self.reading, min_coverage), unknown))
        labels = np.concatenate([np.empty(0, object), *(part[0] for part in parts)])
        adata.obs[self.column] = labels
        adata.obs[f"{self.column}_confidence"] = np.concatenate([np.empty(0, np.float32), *(p[1] for p in parts)])
        return labels

    @property
    def column(self) -> str:
        """Name of the column that labels go to."""
        return f"censusformer_{self.about['label']}".replace("/", "_")  # it comes out of a file, and names HDF5 items

    def labelled(self, own: OwnCells, unknown: float | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Labels, object (block,), and their confidence, float32 (block,), of all cells in their order, by blocks."""
        least = self.about["unknown"] if unknown is None else unknown
        classes = np.array(self.about["classes"], object)
        device = next(self.encoder.parameters()).device
        for cells in own.blocks():
            vectors = torch.from_numpy(embed_cells(self.encoder, cells)).to(device)
            with torch.inference_mode():
                logits = self.head(vectors).cpu().numpy()
            found = probabilities(logits, self.about["temperature"])
            confidence = found.max(1).astype(np.float32)
            yield np.where(confidence < least, UNKNOWN, classes[found.argmax(1)]), confidence


def save(path: Path, base: Mapping[str, Any], found: Finetuned, job: Job, said: Mapping[str, Any]) -> None:
    """Write a fine-tuned model: one file that reads new cells.

    Parameters
    ----------
    path
        Where to.
    base
        What the pretrained model's file says of itself.
    found, job
        The result, and what it was trained for.
    said
        Further plain values: `task`, `label`, `temperature`, `unknown`.
    """
    content = {
        "state_dict": found.encoder.state_dict(),
        "head": found.head.state_dict(),
        "model": found.encoder.config.to_dict(),
        **{key: base[key] for key in OF_MODEL if key in base},
        **said,
        **job.about,
    }
    checkpoints.save(path, KIND, content)


def load_finetuned(path: str | Path, device: str | torch.device | None = None) -> Annotator:
    """Load a fine-tuned model.

    Parameters
    ----------
    path
        `finetuned.pt`, which `censusformer finetune` wrote.
    device
        Where it shall run; by default on a GPU where there is one.

    Raises
    ------
    censusformer.errors.InputError
        Where the file is no such model, or one without classes.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    content = checkpoints.load(path, KIND)
    if "classes" not in content:
        raise InputError(f"{path} was fine-tuned for the task {content.get('task')!r}, which gives cells no labels")
    encoder = Pretrainer(ModelConfig(**content.pop("model")))
    encoder.load_state_dict(content.pop("state_dict"))
    job = Job(task_of(content["task"]), {"classes": content["classes"]}, FinetuneSettings())
    head = scaled_head(job, encoder.config.d_model)
    head.load_state_dict(content.pop("head"))
    reading = Reading.of(content, path)
    return Annotator(Path(path), encoder.to(device).eval(), head.to(device).eval(), reading, content)
