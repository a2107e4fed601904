"""A model as safetensors: `model.safetensors`, `config.json` and `vocab.json` in one folder."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from censusformer.errors import InputError
from censusformer.model import ModelConfig, Pretrainer
from censusformer.steps._json import read_json
from censusformer.tokens.vocabulary import Vocabulary

WEIGHTS, CONFIG, VOCABULARY = "model.safetensors", "config.json", "vocab.json"
FORMAT, VERSION = "censusformer", 1


def write(folder: Path, content: dict[str, Any], vocabulary: Vocabulary) -> None:
    """Write a model to a folder that exists.

    Parameters
    ----------
    folder
        Where to.
    content
        What `best_model.pt` holds: `state_dict`, `model` (its shape) and what it says of itself.
    vocabulary
        Its vocabulary.
    """
    tensors = {name: tensor.contiguous() for name, tensor in content["state_dict"].items()}
    (folder / WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt", "config": CONFIG}))
    about = {key: value for key, value in content.items() if key not in {"state_dict", "vocabulary"}}
    text = json.dumps({"format": FORMAT, "version": VERSION, **about}, indent=2, ensure_ascii=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
    (folder / VOCABULARY).write_text(vocabulary.to_json(), encoding="utf-8")


def read(folder: Path) -> dict[str, Any]:
    """Read what `write` wrote, as the content of a `best_model.pt`.

    Raises
    ------
    InputError
        Where a file is missing or damaged, or they do not belong together.
    """
    config = read_json(folder / CONFIG)
    if (config.pop("format", None), config.pop("version", None)) != (FORMAT, VERSION):
        raise InputError(f"{folder / CONFIG} is no config of censusformer's that this version reads")
    vocabulary = Vocabulary.read(folder / VOCABULARY)
    if vocabulary.sha256 != config.get("vocab_sha256"):
        raise InputError(f"{folder / VOCABULARY} is the vocabulary of another model than {folder / CONFIG}")
    try:
        model = Pretrainer(ModelConfig(**config["model"]))
        model.load_state_dict(load((folder / WEIGHTS).read_bytes()))
    except (SafetensorError, RuntimeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder / WEIGHTS} is damaged or does not fit {CONFIG}: {reason}") from error
    if model.config.n_genes != vocabulary.n_genes:
        raise InputError(f"{folder}: {model.config.n_genes} genes in {CONFIG}, {vocabulary.n_genes} in {VOCABULARY}")
    del config["model"]
    return {"state_dict": model.state_dict(), "model": model.config.to_dict(), **_in_order(config, vocabulary)}


def _in_order(config: dict[str, Any], vocabulary: Vocabulary) -> dict[str, Any]:
    """The keys in their order in a `best_model.pt`, so that the same model gives the same bytes."""
    ordered = {}
    for key, value in config.items():
        ordered[key] = value
        if key == "vocab_sha256":
            ordered["vocabulary"] = vocabulary.to_json()
    return ordered
