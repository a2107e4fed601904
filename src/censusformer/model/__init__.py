"""The model: encoder, attention back ends and heads, torch alone."""

from censusformer.model.attention import BACKENDS, Backend, attention
from censusformer.model.config import ModelConfig
from censusformer.model.encoder import Encoded, Encoder, Packed
from censusformer.model.pretrainer import Prediction, Pretrainer, parameter_counts, squared_errors

__all__ = [
    "BACKENDS",
    "Backend",
    "Encoded",
    "Encoder",
    "ModelConfig",
    "Packed",
    "Prediction",
    "Pretrainer",
    "attention",
    "parameter_counts",
    "squared_errors",
]
