"""`MODEL_CARD.md`: what the page says, in the form that people and hubs read beside a model's file."""

import re
from collections.abc import Mapping, Sequence

from censusformer.report import embedded, leakage, measured, tables
from censusformer.report.embedded import Embedded
from censusformer.report.findings import HEAD_NAMES, LABELS, certainty, duels, head_sentences, headline
from censusformer.report.run import Run
from censusformer.report.tables import BASELINES, HEADS

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#])")


def render_card(run: Run) -> str:
    """The card as Markdown; the same run gives the same text. Times and machines are left out."""
    split = run.test_split
    found = duels(tables.errors(run.reconstruction, split), run.intervals(split))
    parts = [
        _front(run),
        f"# {_plain(run.title)}\n",
        f"**{headline(found, split)}**\n",
        f"{_plain(measured.trained(run))} {_plain(_note(run))}".strip() + "\n",
        "\n".join(f"- {_spaces(sentence)}" for sentence in head_sentences(found)) + "\n",
        _spaces(certainty(found)) + "\n",
        "## Measured\n",
        *(f"{_errors(run, one)}\n" for one in dict.fromkeys([split, "valid"])),
        _MEANING,
        *([_embeddings(run.embedded)] if run.embedded else []),
        "## What was compared between training and test\n",
        _spaces(leakage.leakage_text(run.leakage)) + "\n",
        "## Use\n",
        _USE.format(max_length=run.max_length - 1, n_bins=run.n_bins - 1),
        "## Data, citations and licences\n",
        f"{_plain(_licence(run))}\n",
        _datasets(run),
        "## Trained with\n",
        f"```json\n{_settings(run)}\n```\n",
    ]
    return "\n".join(parts)


_MEANING = """\
Mean squared error in bins² at hidden genes, over all mask ratios; the interval draws whole samples anew. GEP predicts
each hidden gene from its own position, GEPC from the cell's embedding alone. Baselines are fitted on training cells and
fill in the same hidden genes. No predictor can pass the floor: it is the noise of the draw among equal counts.
"""
_USE = """\
`best_model.pt` is read by `censusformer.training.load_model("best_model.pt")`, with the `vocab.json` beside it. It
takes a cell's expressed genes (at most {max_length} of its sample's highly variable ones) with their counts as bins of
1 to {n_bins}, and gives an embedding of the cell and predictions of hidden genes.

For research on cells like those that it was trained on. It was not tested on other tissues, assays or species, nor for
any clinical purpose. Held-out samples of the same data sets share their laboratories; where no test data set is unseen,
nothing here says how the model does on another laboratory's cells.
"""


def _front(run: Run) -> str:
    """The lines that model hubs read."""
    tags = "\n".join(f"- {tag}" for tag in ("single-cell", "rna-seq", "transformer", "censusformer"))
    return f"---\nlibrary_name: censusformer\nlicense: {_licence_tag(run)}\ntags:\n{tags}\n---\n"


def _licence_tag(run: Run) -> str:
    return "cc-by-4.0" if "CC BY 4.0" in _licence(run) else "other"


def _licence(run: Run) -> str:
    return str(run.provenance.get("licence") or "The licence of the data is not recorded.")


def _note(run: Run) -> str:
    return str(run.provenance.get("census_summary", {}).get("note", ""))


def _errors(run: Run, split: str) -> str:
    """Errors of all predictors on one split, over all ratios, with intervals."""
    rows = tables.errors(run.reconstruction, split)
    rows = rows[rows["mask_ratio"].isna()].set_index(["head", "predictor"])
    lines = [f"### {measured.SPLIT_TITLES[split]}\n"]
    body = [("Model " + HEAD_NAMES[head], rows.loc[(head, "model")]) for head in HEADS if (head, "model") in rows.index]
    head = body[0][1].name[0]
    others = [(LABELS[name], rows.loc[(head, name)]) for name in (*BASELINES[::-1], "tie_floor")
              if (head, name) in rows.index]  # fmt: skip
    shown = [(name, f"{row['mse']:.1f}", measured.interval(row["low"], row["high"])) for name, row in [*body, *others]]
    return "\n".join([*lines, *_table(("Predictor", "Error", "95 % interval"), shown)]) + "\n"


def _embeddings(found: Embedded) -> str:
    """Cell types told from the embeddings, beside other representations; and what betrays the batch."""
    sentences = [*embedded.verdict(found), embedded.batch(found)]
    head = "### Embeddings\n\nCell types told from embeddings, macro-F1, and what tells the batch:\n\n"
    return head + "\n".join(f"- {_plain(sentence)}" for sentence in sentences) + "\n"


def _datasets(run: Run) -> str:
    """One row a data set: title, cells, citation, DOI."""
    rows = [_dataset(item) for item in run.provenance.get("datasets", [])]
    return "\n".join(_table(("Data set", "Cells (training / test)", "Citation", "DOI"), rows)) + "\n"


def _dataset(item: Mapping) -> tuple[str, str, str, str]:
    title, citation = item.get("dataset_title"), item.get("citation") or item.get("collection_name") or "not stated"
    return _plain(title or item.get("dataset_id", "")), _cells(item), _plain(citation), _doi(item)


def _cells(item: Mapping) -> str:
    cells = item.get("cells", {})
    return f"{cells['train']:,} / {cells['test']:,}" if cells else "-"


def _doi(item: Mapping) -> str:
    doi = (item.get("collection_doi") or "").removeprefix("https://doi.org/")
    return f"<https://doi.org/{doi}>" if re.fullmatch(r"10\.[^\s<>|]+", doi) else "-"


def _settings(run: Run) -> str:
    import json

    kept = {key: run.args[key] for key in ("model", "mask", "train", "recipe", "parameters") if key in run.args}
    return json.dumps(kept, indent=1, sort_keys=True, ensure_ascii=False)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _plain(text: object) -> str:
    """Text in which nothing is markup, on one line."""
    return _SPECIAL.sub(r"\\\1", _spaces(" ".join(str(text).split())))


def _spaces(text: str) -> str:
    return text.replace("\u00a0", " ")
