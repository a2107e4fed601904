"""Models for others: what scGPT's published class makes of an export, and the way back."""

import json

import numpy as np
import pytest
import torch
from own_cells import about_model, real_cells, vocabulary_for, write_model
from published_scgpt import transformer_model
from safetensors.torch import load_file

import censusformer
from censusformer.cli import main
from censusformer.steps._counts import of_adata
from censusformer.steps._own import OwnCells, Reading
from censusformer.training import collate_padded, embed_cells, predict_masked

REAL = real_cells()
VOCABULARY = vocabulary_for(REAL)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "best_model.pt", VOCABULARY)


def step(name, *options):
    return main([name, *map(str, options)])


def export(path, out, *options):
    assert step("export", "--model", path, "--out", out, *options) == 0
    return out


def back(folder, out):
    assert step("import_model", "--from", folder, "--out", out) == 0
    return out


def published(folder, state=None):
    """scGPT's own model of a folder, built and loaded as its tutorials do; also the keys that did not fit."""
    args, tokens = (json.loads((folder / name).read_text()) for name in ("args.json", "vocab.json"))
    model = transformer_model()(
        len(tokens), *(args[key] for key in ("embsize", "nheads", "d_hid", "nlayers", "n_layers_cls")), vocab=tokens,
        dropout=args["dropout"], pad_token=args["pad_token"], pad_value=args["pad_value"], do_mvc=args["MVC"],
    )  # fmt: skip
    state = torch.load(folder / "best_model.pt", weights_only=True) if state is None else state
    return model.eval(), model.load_state_dict(state, strict=False), tokens, args


def padded_input(tokens, args):
    """Cells in scGPT's layout: symbols through vocab.json, `<cls>` first with args' pad_value as its value."""
    cells = OwnCells(of_adata(REAL), Reading.of(about_model(VOCABULARY), "best_model.pt")).read()
    padded = collate_padded(cells, np.zeros(cells.n_tokens, bool), VOCABULARY, max_length=301)
    symbols = {row: token for token, row in tokens.items()}
    names = [*VOCABULARY.names, "<cls>", "<pad>"]
    genes = torch.tensor([[tokens[names[g]] for g in row] for row in padded.genes.tolist()])
    assert all(symbols[g] == names[g] for g in range(len(names)))
    values = padded.values.clone()
    values[:, 0] = args["pad_value"]
    return cells, genes, values, padded.padding


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
def test_scgpts_published_class_makes_the_same_embeddings(path, tmp_path):
    folder = export(path, tmp_path / "scgpt", "--format", "scgpt")
    model, unfit, tokens, args = published(folder)
    assert unfit.unexpected_keys == []
    assert {key.split(".")[0] for key in unfit.missing_keys} == {"cls_decoder"}
    cells, genes, values, padding = padded_input(tokens, args)
    with torch.no_grad():
        theirs = model(genes, values, padding, MVC=True)
    ours = censusformer.load(path)
    np.testing.assert_allclose(theirs["cell_emb"].numpy(), embed_cells(ours.module, cells), rtol=0, atol=1e-4)
    mask = np.ones(cells.n_tokens, bool)  # heads: of all positions, from values that are seen as masked
    hidden = values.clone()
    hidden[:, 1:] = torch.where(padding[:, 1:], hidden[:, 1:], -1.0)
    with torch.no_grad():
        theirs = model(genes, hidden, padding, MVC=True)
    real = ~padding
    real[:, 0] = False
    gep, gepc = predict_masked(ours.module, cells, mask)
    np.testing.assert_allclose(theirs["mlm_output"][real].numpy(), gep, rtol=0, atol=1e-3)
    np.testing.assert_allclose(theirs["mvc_output"][real].numpy(), gepc, rtol=0, atol=1e-3)


def test_names_of_flash_attention(path, tmp_path):
    plain, flash = (
        torch.load(export(path, tmp_path / name, "--format", "scgpt", *options) / "best_model.pt", weights_only=True)
        for name, options in (("plain", []), ("flash", ["--flash"]))
    )
    assert "transformer_encoder.layers.0.self_attn.Wqkv.weight" in flash
    renamed = {name.replace("Wqkv.", "in_proj_"): value for name, value in flash.items()}  # as scGPT's load_pretrained
    assert renamed.keys() == plain.keys()
    assert all(torch.equal(renamed[name], plain[name]) for name in plain)


@pytest.mark.parametrize("options", [["--format", "scgpt"], ["--format", "scgpt", "--flash"], []])
def test_there_and_back_gives_the_same_file(path, tmp_path, options):
    folder = export(path, tmp_path / "out", *options)
    again = back(folder, tmp_path / "again.pt")
    assert again.read_bytes() == path.read_bytes()
    one, two = (censusformer.load(file).embed(REAL.copy()) for file in (path, again))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_safetensors_keep_every_shape(tmp_path, norm):
    path = write_model(tmp_path / "best_model.pt", VOCABULARY, norm=norm, gene_bias=True)
    folder = export(path, tmp_path / "out")
    tensors, state = load_file(folder / "model.safetensors"), censusformer.load(path).module.state_dict()
    assert tensors.keys() == state.keys()
    assert all(torch.equal(tensors[name], state[name]) for name in state)
    assert json.loads((folder / "config.json").read_text())["model"]["norm"] == norm
    assert back(folder, tmp_path / "again.pt").read_bytes() == path.read_bytes()


def test_a_gene_bias_is_left_out_of_scgpts_layout_and_the_card_says_so(tmp_path):
    path = write_model(tmp_path / "best_model.pt", VOCABULARY, gene_bias=True)
    folder = export(path, tmp_path / "out", "--format", "scgpt")
    assert "heads had one bias a gene" in (folder / "README.md").read_text()
    again = censusformer.load(back(folder, tmp_path / "again.pt"))
    assert not again.module.config.gene_bias
    np.testing.assert_array_equal(again.embed(REAL.copy()), censusformer.load(path).embed(REAL.copy()))


def test_symbols_that_two_genes_share_become_ids(tmp_path):
    names = ("TWIN", "TWIN", *VOCABULARY.names[2:])
    vocabulary = type(VOCABULARY)(VOCABULARY.genes, names, VOCABULARY.n_samples)
    folder = export(write_model(tmp_path / "best_model.pt", vocabulary), tmp_path / "out", "--format", "scgpt")
    tokens = json.loads((folder / "vocab.json").read_text())
    assert (tokens["TWIN"], tokens[VOCABULARY.genes[1]]) == (0, 1)
    assert sorted(tokens.values()) == list(range(VOCABULARY.size + 1))  # <eoc> is the last
    assert back(folder, tmp_path / "again.pt").read_bytes() == (tmp_path / "best_model.pt").read_bytes()


def test_cards_say_what_files_beside_the_model_know(tmp_path):
    path = write_model(tmp_path / "best_model.pt", VOCABULARY)
    assert "The model's file does not say" in (export(path, tmp_path / "one") / "README.md").read_text()
    data = {"train_cells": 12345, "train_tokens": 9, "valid_cells": 67, "vocab_sha256": VOCABULARY.sha256}
    (tmp_path / "args.json").write_text(json.dumps({"data": {**data, "shards_sha256": "abc"}}))
    head = {"model": {"mse": 111.4}, "baselines": {"ridge": {"mse": 121.8}}}
    summary = {"model": {"vocab_sha256": VOCABULARY.sha256, "step": 1}, "headline": "test"}
    (tmp_path / "evaluation").mkdir()
    content = {**summary, "splits": {"test": {"gep": head, "gepc": head}}}
    (tmp_path / "evaluation/summary.json").write_text(json.dumps(content))
    for kind in ("safetensors", "scgpt"):
        text = (export(path, tmp_path / kind, "--format", kind) / "README.md").read_text()
        assert "12,345 training cells" in text
        assert "validation cells: GEP 1.0, GEPC 1.0." in text
        assert "GEP on test cells: 111.4; ridge 121.8." in text
        assert f"| genes | {VOCABULARY.n_genes:,} |" in text
        assert "import_model --from" in text


def test_what_cannot_be_exported(path, tmp_path, capsys):
    pre = write_model(tmp_path / "best_model.pt", VOCABULARY, norm="pre")
    assert step("export", "--model", pre, "--out", tmp_path / "out", "--format", "scgpt") == 2
    assert "export it as safetensors, or train with train.recipe reference" in capsys.readouterr().err
    many = write_model(tmp_path / "many.pt", VOCABULARY, about={"n_bins": 600})
    assert step("export", "--model", many, "--out", tmp_path / "out", "--format", "scgpt") == 2
    assert "600 bins; scGPT cuts them off at 512" in capsys.readouterr().err
    assert step("export", "--model", path, "--out", path.parent) == 2
    assert "is there and not empty" in capsys.readouterr().err
    assert step("export", "--model", tmp_path / "absent.pt", "--out", tmp_path / "out") == 2
    assert not (tmp_path / "out").exists()
