"""Models of others: scGPT's folder layout as published, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from own_cells import real_cells, vocabulary_for, write_model
from published_scgpt import transformer_model

from censusformer.cli import main
from censusformer.model import Packed
from censusformer.tokens.vocabulary import Vocabulary
from censusformer.training import load_model, vocabulary_of

REAL = real_cells()
ARGS = {"embsize": 16, "nheads": 4, "d_hid": 24, "nlayers": 2, "dropout": 0.2, "n_bins": 51, "max_seq_len": 1200}
ARGS |= {"input_emb_style": "continuous", "pad_token": "<pad>", "pad_value": -2}


def published(folder, *, flash=True, **changes):
    """A folder as scGPT's authors publish theirs: symbols in no order, names of flash-attention layers."""
    symbols = np.random.default_rng(0).permutation(REAL.var_names)[:200].tolist()
    tokens = {name: i for i, name in enumerate(["<pad>", "no gene", *symbols, "<cls>", "<eoc>"])}
    torch.manual_seed(1)
    model = transformer_model()(len(tokens), 16, 4, 24, 2, vocab=tokens, do_mvc=True, **changes).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    state = {name.replace("in_proj_", "Wqkv.") if flash else name: x for name, x in model.state_dict().items()}
    folder.mkdir()
    torch.save(state, folder / "best_model.pt")
    (folder / "args.json").write_text(json.dumps(ARGS))
    (folder / "vocab.json").write_text(json.dumps(tokens))
    return model, tokens


def bring(folder, out):
    return main(["import_model", "--from", str(folder), "--out", str(out)])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
@pytest.mark.parametrize("flash", [True, False])
def test_a_published_model_gives_the_same_embeddings_here(tmp_path, flash):
    theirs, tokens = published(tmp_path / "scgpt", flash=flash)
    assert bring(tmp_path / "scgpt", tmp_path / "best_model.pt") == 0
    ours, about = load_model(tmp_path / "best_model.pt")
    vocabulary = vocabulary_of(about, tmp_path / "best_model.pt")
    id_of = dict(zip(REAL.var_names, REAL.var["feature_id"], strict=True))
    assert list(vocabulary.genes) == sorted(id_of[name] for name in vocabulary.names)
    assert vocabulary.n_genes == 200  # '<eoc>' and 'no gene' are none
    rows = np.arange(vocabulary.n_genes)[:50]
    genes = torch.tensor([[tokens["<cls>"], *(tokens[vocabulary.names[i]] for i in rows)]])
    values = torch.tensor([[0.0, *range(1, 51)]])
    with torch.no_grad():
        wanted = theirs(genes, values, torch.zeros_like(genes, dtype=torch.bool))["cell_emb"][0]
        here = torch.tensor([vocabulary.cls, *rows.tolist()])
        found = ours.encode(Packed(here, values[0], torch.tensor([0, 51], dtype=torch.int32), 51)).tokens[0]
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=0, atol=1e-4)
    for name in ("decoder.fc.0.weight", "mvc_decoder.W.weight"):
        assert torch.equal(ours.state_dict()[name], theirs.state_dict()[name])


def test_pretraining_starts_from_it(tmp_path):
    """`train.init_from` takes the file: genes that both have bring their embeddings along."""
    from censusformer.model import ModelConfig, Pretrainer
    from censusformer.training.growth import start_from

    published(tmp_path / "scgpt")
    bring(tmp_path / "scgpt", tmp_path / "best_model.pt")
    old, about = load_model(tmp_path / "best_model.pt")
    known = vocabulary_of(about, tmp_path / "best_model.pt")
    full = vocabulary_for(REAL)
    new = Pretrainer(ModelConfig(full.n_genes, 2, 16, 4, 24, 0.1))
    start = start_from(str(tmp_path / "best_model.pt"), new, full, 51)
    assert start.shared == 200
    table = "encoder.embedding.weight"
    rows = [full.genes.index(gene) for gene in known.genes]
    assert torch.equal(new.state_dict()[table][rows], old.state_dict()[table][:200])


@pytest.mark.parametrize("batches", [True, False])
def test_heads_of_other_shapes_start_anew_and_are_named(tmp_path, batches, capsys):
    published(tmp_path / "scgpt", use_batch_labels=batches, num_batch_labels=3)
    assert bring(tmp_path / "scgpt", tmp_path / "best_model.pt") == 0
    text = capsys.readouterr().err
    assert ("so new: decoder.fc.0.weight, mvc_decoder.W.weight" in text) == batches
    assert "2 of 202 tokens have no Ensembl id" in text


def test_embedding_with_it_at_once_says_that_no_gene_list_is_known(tmp_path, capsys):
    published(tmp_path / "scgpt")
    bring(tmp_path / "scgpt", tmp_path / "best_model.pt")
    REAL.write_h5ad(tmp_path / "mine.h5ad")
    files = ["--h5ad", str(tmp_path / "mine.h5ad"), "--out", str(tmp_path / "out.h5ad")]
    assert main(["embed", "--model", str(tmp_path / "best_model.pt"), *files]) == 2
    assert "no sample selected a gene" in capsys.readouterr().err


def rewritten(change):
    """Write a JSON file anew, changed."""
    return lambda path: path.write_text(json.dumps(change(json.loads(path.read_text()))))


def without(name):
    return rewritten(lambda content: {key: value for key, value in content.items() if key != name})


def with_(**changes):
    return rewritten(lambda content: {**content, **changes})


BAD = [  # the file that is broken, how, and the words of the refusal
    ("args.json", Path.unlink, "neither config.json (safetensors) nor args.json (scGPT) is there"),
    ("args.json", with_(d_hid=32), "is (24,), (32,) is needed by args.json"),
    ("args.json", with_(nlayers=3), "transformer_encoder.layers.2.linear1.bias is missing"),
    ("args.json", without("nheads"), "args.json does not say nheads"),
    ("args.json", with_(input_emb_style="category"), "input_emb_style other than continuous"),
    ("args.json", lambda path: path.write_text("[]"), "args.json holds no JSON object"),
    ("best_model.pt", Path.unlink, "best_model.pt is missing"),
    ("best_model.pt", lambda path: path.write_bytes(b"nothing"), "best_model.pt is damaged or no file of weights"),
    ("best_model.pt", lambda path: torch.save([1], path), "best_model.pt holds no weights by name"),
    ("vocab.json", lambda path: path.write_text("{"), "vocab.json is no JSON"),
    ("vocab.json", without("<cls>"), "vocab.json has no token <cls>"),
    ("vocab.json", with_(**{"<cls>": 10_000}), "no embedding for each token of vocab.json"),
    ("vocab.json", rewritten(lambda _: {"<cls>": 0, "<pad>": 1, "stranger": 2}), "none of its tokens is a human gene"),
]


@pytest.mark.parametrize(("name", "damage", "words"), BAD)
def test_bad_folders_are_refused_in_one_line(tmp_path, name, damage, words, capsys):
    published(tmp_path / "scgpt")
    damage(tmp_path / "scgpt" / name)
    assert bring(tmp_path / "scgpt", tmp_path / "best_model.pt") == 2
    text = capsys.readouterr().err
    assert words in text
    assert "Traceback" not in text
    assert not (tmp_path / "best_model.pt").exists()


def test_normalisation_by_batch_is_refused(tmp_path, capsys):
    published(tmp_path / "scgpt", domain_spec_batchnorm="batchnorm")
    assert bring(tmp_path / "scgpt", tmp_path / "best_model.pt") == 2
    assert "normalises its input by batch (bn.weight)" in capsys.readouterr().err


@pytest.mark.parametrize("case", ["weights", "vocabulary", "config", "format"])
def test_bad_safetensors_are_refused(tmp_path, case, capsys):
    path = write_model(tmp_path / "model.pt", vocabulary_for(REAL))
    folder = tmp_path / "out"
    assert main(["export", "--model", str(path), "--out", str(folder)]) == 0
    config = json.loads((folder / "config.json").read_text())
    if case == "weights":
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-40])
    elif case == "vocabulary":
        Vocabulary(("ENSG00000000001",), ("A",), (1,)).write(folder / "vocab.json")
    elif case == "config":
        (folder / "config.json").write_text(json.dumps({**config, "model": {**config["model"], "d_ff": 99}}))
    else:
        (folder / "config.json").write_text(json.dumps({"architectures": ["Bert"]}))
    words = {
        "weights": "model.safetensors is damaged or does not fit config.json",
        "vocabulary": "is the vocabulary of another model than",
        "config": "model.safetensors is damaged or does not fit config.json",
        "format": "is no config of censusformer's",
    }[case]
    assert bring(folder, tmp_path / "best_model.pt") == 2
    assert words in capsys.readouterr().err
