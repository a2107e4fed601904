"""A model in scGPT's folder layout: `best_model.pt` (weights alone), `args.json` and `vocab.json` (token -> row).

Names and shapes are those of `TransformerModel` in scgpt 0.2.4 (Cui et al. 2024). Its PyTorch layers name the weights
of attention `in_proj_*`, its flash-attention layers and the published checkpoints `Wqkv.*`.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from censusformer.census.symbols import ids_of, read_gencode
from censusformer.errors import InputError
from censusformer.model import Encoder, ModelConfig, Pretrainer
from censusformer.steps._json import read_json
from censusformer.tokens.vocabulary import Vocabulary

WEIGHTS, ARGS, VOCABULARY = "best_model.pt", "args.json", "vocab.json"
OWN = "censusformer.json"  # what the layout has no place for
CLS, PAD, END = "<cls>", "<pad>", "<eoc>"
TABLE = "encoder.embedding.weight"
NOT_OURS = ("dsbn.", "bn.")  # normalisation of the input that our encoder does not have
LARGEST = 512  # where scGPT's value encoder cuts bins off


def write(folder: Path, content: Mapping[str, Any], vocabulary: Vocabulary, *, flash: bool = False) -> None:
    """Write a model to a folder that exists.

    Parameters
    ----------
    folder
        Where to.
    content
        What `best_model.pt` holds.
    vocabulary
        Its vocabulary.
    flash
        Whether attention weights bear the names of scGPT's flash-attention layers.

    Raises
    ------
    InputError
        Where scGPT's class cannot compute the same.
    """
    config = ModelConfig(**content["model"])
    if config.norm != "post":
        raise InputError(
            "the model was trained by a recipe with LayerNorms before the blocks, which no class of scgpt 0.2.4 has "
            "(its pre_norm adds the normalised input): export it as safetensors, or train with train.recipe reference"
        )
    if content["n_bins"] > LARGEST + 1:
        raise InputError(f"the model has {content['n_bins']} bins; scGPT cuts them off at {LARGEST}: use safetensors")
    torch.save(_to_scgpt(content["state_dict"], flash=flash), folder / WEIGHTS)
    about = {key: value for key, value in content.items() if key != "state_dict"}
    about["vocabulary"] = vocabulary.to_json()
    texts = {ARGS: scgpt_args(config, content), VOCABULARY: tokens_of(vocabulary), OWN: about}
    for name, value in texts.items():
        (folder / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def scgpt_args(config: ModelConfig, about: Mapping[str, Any]) -> dict[str, Any]:
    """`args.json`, as scGPT's own code and tutorials read it.

    `pad_value` is 0, since `scgpt.tasks.embed_data` gives `<cls>` this value and ours has 0; at `<pad>` itself no value
    matters, attention is masked there.
    """
    return {
        "embsize": config.d_model,
        "nheads": config.n_heads,
        "d_hid": config.d_ff,
        "nlayers": config.n_layers,
        "n_layers_cls": 3,
        "dropout": config.dropout,
        "n_bins": about["n_bins"],
        "max_seq_len": about["max_length"],
        "input_style": "binned",
        "input_emb_style": "continuous",
        "cell_emb_style": "cls",
        "mvc_decoder_style": "inner product",
        "MVC": True,
        "pad_token": PAD,
        "pad_value": 0,
        "mask_value": -1,
        "pre_norm": False,
        "use_batch_labels": False,
    }


def tokens_of(vocabulary: Vocabulary) -> dict[str, int]:
    """`vocab.json`: symbols and the rows of their embeddings; the Ensembl id of a gene whose symbol is another's, too.

    `<eoc>` gets a row, although nothing reads it: scGPT's tutorials add it where it is missing, and then load no
    embedding at all, since the table has another length.
    """
    tokens: dict[str, int] = {}
    for row, (gene, name) in enumerate(zip(vocabulary.genes, vocabulary.names, strict=True)):
        tokens[gene if name in tokens or not name else name] = row
    return {**tokens, CLS: vocabulary.cls, PAD: vocabulary.pad, END: vocabulary.size}


def _to_scgpt(state: Mapping[str, Tensor], *, flash: bool) -> dict[str, Tensor]:
    kept = {name: tensor for name, tensor in state.items() if not name.endswith("gene_bias")}
    kept[TABLE] = torch.cat([kept[TABLE], kept[TABLE].new_zeros(1, kept[TABLE].shape[1])])  # <eoc>
    return {name.replace("in_proj_", "Wqkv.") if flash else name: tensor for name, tensor in kept.items()}


def read(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Read a folder in scGPT's layout, as the content of a `best_model.pt`.

    Returns
    -------
    The content, and what is worth saying: which tokens were left out, which heads start anew.

    Raises
    ------
    InputError
        Where files are missing or damaged, or the encoder has another shape than ours.
    """
    state, args, tokens = _read_state(folder / WEIGHTS), read_json(folder / ARGS), read_json(folder / VOCABULARY)
    if missing := {CLS, PAD} - tokens.keys():
        raise InputError(f"{folder / VOCABULARY} has no token {', '.join(sorted(missing))}")
    about, said = _own(folder), []
    vocabulary = Vocabulary.from_json(about["vocabulary"], folder / OWN) if about else None
    if vocabulary is None:
        vocabulary, rows, lost = match_tokens(tokens)
        said.append(f"{lost:,} of {len(tokens) - 2:,} tokens have no Ensembl id (GENCODE v44) and are left out")
        if not vocabulary.n_genes:
            raise InputError(f"{folder / VOCABULARY}: none of its tokens is a human gene, by symbol or Ensembl id")
    else:
        place = tokens_of(vocabulary)
        if place != tokens:
            raise InputError(f"{folder / VOCABULARY} is not the one that {OWN} was written with: delete {OWN}")
        rows = np.arange(vocabulary.n_genes)
    config = _config(folder / ARGS, args, vocabulary.n_genes, about)
    rows = torch.tensor([*rows.tolist(), tokens[CLS], tokens[PAD]])
    weights, anew = _from_scgpt(folder / WEIGHTS, state, config, rows)
    if anew:
        said.append(f"not there, or of another shape, and so new: {', '.join(anew)}")
    return {"state_dict": weights, "model": config.to_dict(), **(about or _about(args, vocabulary))}, said


def _read_state(path: Path) -> dict[str, Tensor]:
    """Weights by the names of scGPT's PyTorch layers."""
    if not path.is_file():
        raise InputError(f"{path} is missing")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:100]
        raise InputError(f"{path} is damaged or no file of weights ({reason})") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path} holds no weights by name")
    return {name.removeprefix("module.").replace("Wqkv.", "in_proj_"): value for name, value in state.items()}


def _own(folder: Path) -> dict[str, Any] | None:
    """What an export of ours noted; None in other folders."""
    if not (folder / OWN).is_file():
        return None
    about = read_json(folder / OWN)
    return {key: value for key, value in about.items() if key != "model"} | {"_model": about["model"]}


def match_tokens(tokens: Mapping[str, int]) -> tuple[Vocabulary, np.ndarray, int]:
    """Match scGPT's tokens, symbols or Ensembl ids, with Ensembl ids.

    Returns
    -------
    The vocabulary, genes by rising id; the row of each, int64 (n_genes,); how many tokens are none of its genes.
    """
    names = np.array([token for token in tokens if token not in {CLS, PAD}], dtype=object)
    ids = np.array([token if re.fullmatch(r"ENSG\d+", token) else "" for token in names], dtype=object)
    ids = np.where(ids == "", ids_of(names, read_gencode()), ids)
    frame = pd.DataFrame({"id": ids, "name": names, "row": [tokens[name] for name in names]})
    frame = frame[frame["id"] != ""].sort_values(["id", "row"]).drop_duplicates("id")
    vocabulary = Vocabulary(tuple(frame["id"]), tuple(frame["name"]), (0,) * len(frame))
    return vocabulary, frame["row"].to_numpy(np.int64), len(names) - len(frame)


def _config(path: Path, args: Mapping[str, Any], n_genes: int, about: dict[str, Any] | None) -> ModelConfig:
    if about is not None:
        return ModelConfig(**{**about.pop("_model"), "gene_bias": False})
    if args.get("pre_norm") or args.get("input_emb_style", "continuous") != "continuous":
        raise InputError(f"{path}: pre_norm, or an input_emb_style other than continuous, is none of our shapes")
    names = {"n_layers": "nlayers", "d_model": "embsize", "n_heads": "nheads", "d_ff": "d_hid", "dropout": "dropout"}
    if missing := [name for name in names.values() if name not in args]:
        raise InputError(f"{path} does not say {', '.join(missing)}")
    return ModelConfig(n_genes, **{ours: args[theirs] for ours, theirs in names.items()})


def _about(args: Mapping[str, Any], vocabulary: Vocabulary) -> dict[str, Any]:
    """What a `best_model.pt` says of itself; of a foreign model little is known."""
    return {
        "vocab_sha256": vocabulary.sha256,
        "vocabulary": vocabulary.to_json(),
        "binning": {"method": "cell", "ties": "random", "seed": 0},
        "n_bins": int(args.get("n_bins", 51)),
        "max_length": 1201,
        "epoch": 0,
        "step": 0,
        "valid": {},
        "args": {"train": {"recipe": "reference"}},
    }


def _from_scgpt(
    path: Path, state: Mapping[str, Tensor], config: ModelConfig, rows: Tensor
) -> tuple[dict[str, Tensor], list[str]]:
    """Our state out of theirs; also the tensors of heads that theirs lacks, which are new."""
    if foreign := [name for name in state if name.startswith(NOT_OURS)]:
        raise InputError(f"{path} normalises its input by batch ({foreign[0]}), which our encoder does not")
    if TABLE not in state or int(rows.max()) >= len(state[TABLE]):
        raise InputError(f"{path} has no embedding for each token of {VOCABULARY}")
    theirs = {**state, TABLE: state[TABLE][rows]}
    torch.manual_seed(0)  # of what is new
    model = Pretrainer(config)
    ours = model.state_dict()
    fits = {name for name, tensor in ours.items() if name in theirs and theirs[name].shape == tensor.shape}
    if unfit := sorted(set(Encoder(config).state_dict()) - fits):
        found = tuple(theirs[unfit[0]].shape) if unfit[0] in theirs else "missing"
        raise InputError(f"{path}: {unfit[0]} is {found}, {tuple(ours[unfit[0]].shape)} is needed by {ARGS}")
    model.load_state_dict({name: theirs[name].to(ours[name].dtype) if name in fits else ours[name] for name in ours})
    return model.state_dict(), sorted(set(ours) - fits)
