"""Training on shards: batches, recipes, the loop, checkpoints and predictions."""

from censusformer.training.embedding import embed_cells
from censusformer.training.padded import Padded, collate_padded, pack_padded
from censusformer.training.predict import load_model, predict_masked, vocabulary_of
from censusformer.training.threads import set_threads

__all__ = [
    "Padded",
    "collate_padded",
    "embed_cells",
    "load_model",
    "pack_padded",
    "predict_masked",
    "set_threads",
    "vocabulary_of",
]
