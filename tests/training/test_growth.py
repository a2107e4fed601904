"""Starting from another run's model: which weights are kept, and what is refused."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_shards import expressed, vocabulary_of, write_data

from censusformer.cli import main
from censusformer.errors import InputError
from censusformer.tokens.vocabulary import Vocabulary
from censusformer.training import load_model
from censusformer.training.data import read_data
from censusformer.training.growth import start_from
from censusformer.training.trainer import build_model

SHAPE = ["--model-n-layers", "1", "--model-d-model", "16", "--model-n-heads", "2", "--model-d-ff", "16"]


def pretrain(folder, out, *more):
    files = ["--shards", folder / "shards.json", "--vocab", folder / "vocab.json", "--out", out]
    return main([str(word) for word in ["pretrain", *files, *SHAPE, "--train-batch-size", 16, "--threads", 1, *more]])


@pytest.fixture(scope="module")
def small(tmp_path_factory, folder):
    """A finished run on 80 genes."""
    out = tmp_path_factory.mktemp("small")
    assert pretrain(folder, out, "--train-epochs", 3) == 0
    return out


@pytest.fixture(scope="module")
def grown_vocabulary():
    """Two genes of the 80 are gone, five are new, one of them in front: every id moves."""
    genes = sorted([*vocabulary_of(80).genes[2:], *(f"ENSG{i:011d}" for i in range(90, 94)), "ENSA00000000000"])
    return Vocabulary(tuple(genes), tuple(genes), (1,) * len(genes))


@pytest.fixture(scope="module")
def grown(tmp_path_factory, grown_vocabulary):
    """Shards of that vocabulary, other cells."""
    cells = expressed(120, n_genes=83, seed=5)
    parts = {"train": cells.take(np.arange(20, 120)), "valid": cells.take(np.arange(20)), "test": cells.take([])}
    return write_data(tmp_path_factory.mktemp("grown"), parts, grown_vocabulary)


def test_shared_genes_keep_their_rows_and_new_ones_begin_as_always(small, grown, grown_vocabulary, settings):
    data = read_data(grown / "shards.json", grown_vocabulary)
    fresh, model = (build_model(settings(), data) for _ in range(2))
    start = start_from(str(small / "best_model.pt"), model, grown_vocabulary, 51)
    assert (start.shared, start.new, start.left) == (78, 5, 2)
    old, _ = load_model(small / "best_model.pt")
    before, now, new = old.state_dict(), model.state_dict(), fresh.state_dict()
    row = {gene: i for i, gene in enumerate(vocabulary_of(80).genes)}
    for name in ("encoder.embedding.weight", "decoder.gene_bias", "mvc_decoder.gene_bias"):
        for i, gene in enumerate(grown_vocabulary.genes):
            assert torch.equal(now[name][i], before[name][row[gene]] if gene in row else new[name][i])
        assert torch.equal(now[name][-2:], before[name][-2:])  # <cls> and <pad>
    rest = [name for name in now if now[name].shape == before[name].shape]
    assert len(rest) == len(now) - 3 and all(torch.equal(now[name], before[name]) for name in rest)


def first_loss(out):
    line = next(line for line in (out / "metrics.csv").read_text().splitlines() if line.startswith("0,0,valid,sum,,"))
    return float(line.split(",")[5])


def test_growth_goes_on_from_what_was_learned(small, folder, tmp_path):
    """On the same shards the first validation loss is the last best one; the record says what was shared."""
    assert pretrain(folder, tmp_path, "--train-epochs", 1, "--train-init-from", small / "best_model.pt") == 0
    _, about = load_model(small / "best_model.pt")
    assert first_loss(tmp_path) == pytest.approx(about["valid"]["sum"], rel=1e-5)
    assert first_loss(small) > about["valid"]["sum"] + 1
    args = json.loads((tmp_path / "args.json").read_text())
    assert (args["start"]["shared"], args["start"]["new"], args["start"]["left"]) == (80, 0, 0)


def test_another_start_is_another_run(small, grown, tmp_path):
    """The work folder hangs on the content of the file, not on its name."""
    for name in ("a", "b", "c"):
        shutil.copytree(small, tmp_path / name)
    (tmp_path / "c/best_model.pt").unlink()
    content = torch.load(small / "best_model.pt", weights_only=True)
    torch.save({**content, "step": 0}, tmp_path / "c/best_model.pt")
    names = []
    for name in ("a", "b", "c"):
        out = tmp_path / f"out_{name}"
        assert pretrain(grown, out, "--train-max-steps", 1, "--train-init-from", tmp_path / name / "best_model.pt") == 0
        names.append(next((out / "work").iterdir()).name)
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"d_model": 32}, "model.d_model is 16 there, 32 here; they have to agree"),
        ({"n_layers": 2, "d_ff": 8}, "model.n_layers is 1 there, 2 here; model.d_ff is 16 there, 8 here"),
    ],
)
def test_another_shape_is_refused(small, grown, grown_vocabulary, settings, model, said):
    data = read_data(grown / "shards.json", grown_vocabulary)
    with pytest.raises(InputError, match=said):
        start_from(str(small / "best_model.pt"), build_model(settings(model), data), grown_vocabulary, 51)


def test_what_else_does_not_fit_is_refused(small, grown, grown_vocabulary, settings, tmp_path):
    data = read_data(grown / "shards.json", grown_vocabulary)
    path, model = str(small / "best_model.pt"), build_model(settings(), data)
    reference = build_model(settings(recipe="reference"), data)
    with pytest.raises(InputError, match=r"train\.recipe was fast there"):
        start_from(path, reference, grown_vocabulary, 51)
    with pytest.raises(InputError, match=r"binning\.n_bins is 51 there, 11 here"):
        start_from(path, model, grown_vocabulary, 11)
    strangers = replace(grown_vocabulary, genes=tuple(f"ENSX{i}" for i in range(grown_vocabulary.n_genes)))
    with pytest.raises(InputError, match="no gene of"):
        start_from(path, model, strangers, 51)
    with pytest.raises(InputError, match="is missing; give the best_model"):
        start_from(str(tmp_path / "none.pt"), model, grown_vocabulary, 51)
