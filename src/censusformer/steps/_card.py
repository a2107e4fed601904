"""The card that goes with a shared model: what it is, what it was trained on as far as files say, how to load it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from censusformer.model import ModelConfig, Pretrainer, parameter_counts
from censusformer.steps._json import read_json
from censusformer.tokens.vocabulary import Vocabulary

LOAD = {
    "safetensors": """    censusformer import_model --from {folder} --out best_model.pt

gives the file that `censusformer embed` and `censusformer.load` take.""",
    "scgpt": """    import json, torch
    from scgpt.model import TransformerModel
    from scgpt.tokenizer import GeneVocab
    vocab = GeneVocab.from_file("vocab.json")
    args = json.load(open("args.json"))
    model = TransformerModel(
        len(vocab), args["embsize"], args["nheads"], args["d_hid"], args["nlayers"], args["n_layers_cls"],
        vocab=vocab, dropout=args["dropout"], pad_token=args["pad_token"], pad_value=args["pad_value"], do_mvc=True,
    )
    model.load_state_dict(torch.load("best_model.pt"), strict=False)

`strict=False` leaves the head `cls_decoder` as it was initialised: the model has none. `<cls>` takes the value 0
(`pad_value` says so to `scgpt.tasks.embed_data`); the row `<eoc>` is there for scGPT's tutorials and was never trained.
{bias}Back: `censusformer import_model --from {folder} --out best_model.pt`.""",
}
LIMITS = """It knows the genes of its vocabulary, cells as raw counts of molecules, and the tissue, organism and assays
of its training data. It was not made for diagnosis. Whoever shares it states its licence, with that of the data."""
BIAS = "The heads had one bias a gene, which scGPT's lack: what they predict differs, embeddings do not.\n"


def card(path: Path, content: Mapping[str, Any], vocabulary: Vocabulary, kind: str, folder: Path) -> str:
    """Write the card, in Markdown.

    Parameters
    ----------
    path
        The model's file; `args.json` and `evaluation/summary.json` beside it are cited where they belong to it.
    content
        What the file holds.
    vocabulary
        Its vocabulary.
    kind, folder
        What is written, `safetensors` or `scgpt`, and where.
    """
    config = ModelConfig(**content["model"])
    bias = BIAS if config.gene_bias else ""
    parts = [
        "# A single-cell transformer, pretrained by masked expression",
        f"Written by censusformer from `{path.name}`, vocabulary {vocabulary.sha256[:12]}…",
        _table(_shape(config, content, vocabulary)),
        "## Trained on",
        _data(path, vocabulary),
        "Settings:\n\n```json\n" + json.dumps(content.get("args", {}), indent=1) + "\n```",
        "## Measured",
        _measured(path, content, vocabulary),
        "## Load it",
        LOAD[kind].format(folder=folder.name, bias=bias),
        "## Limits",
        LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


def _shape(config: ModelConfig, content: Mapping[str, Any], vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        "layers, width, heads, feed-forward": f"{config.n_layers}, {config.d_model}, {config.n_heads}, {config.d_ff}",
        "LayerNorm": config.norm,
        "parameters": f"{parameter_counts(Pretrainer(config))['total']:,}",
        "genes": f"{vocabulary.n_genes:,}",
        "genes that a sample selected": f"{sum(n > 0 for n in vocabulary.n_samples):,}",
        "bins": content["n_bins"],
        "epoch and step": f"{content['epoch']}, {content['step']:,}",
    }


def _table(rows: Mapping[str, Any]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _data(path: Path, vocabulary: Vocabulary) -> str:
    """What `args.json` beside the model says of the training data."""
    file = path.with_name("args.json")
    data = read_json(file).get("data", {}) if file.is_file() else {}
    if data.get("vocab_sha256") != vocabulary.sha256:
        return "The model's file does not say; name the data, with their licence, before sharing it."
    return (
        f"{data['train_cells']:,} training cells ({data['train_tokens']:,} tokens), {data['valid_cells']:,} validation "
        f"cells; list of shards {str(data['shards_sha256'])[:12]}…. Name the data, with their licence, before sharing."
    )


def _measured(path: Path, content: Mapping[str, Any], vocabulary: Vocabulary) -> str:
    """Losses on validation cells, and those on the test samples where `evaluate` measured them."""
    valid = content.get("valid") or {}
    losses = ", ".join(f"{name.upper()} {value:.1f}" for name, value in valid.items() if name != "sum")
    lines = [f"Mean squared error in bins of masked values, validation cells: {losses or 'not known'}."]
    file = path.parent / "evaluation" / "summary.json"
    summary = read_json(file) if file.is_file() else {}
    of = summary.get("model", {})
    if (of.get("vocab_sha256"), of.get("step")) == (vocabulary.sha256, content["step"]):
        split = summary["splits"][summary["headline"]]
        for head in ("gep", "gepc"):
            beside = {name: value["mse"] for name, value in split[head]["baselines"].items()}
            named = ", ".join(f"{name} {mse:.1f}" for name, mse in beside.items())
            lines.append(f"{head.upper()} on {summary['headline']} cells: {split[head]['model']['mse']:.1f}; {named}.")
    return "\n".join(lines)
