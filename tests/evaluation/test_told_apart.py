"""A good model, one trained on shuffled genes and untrained ones are told apart by the evaluation and the report."""

from dataclasses import replace

import pandas as pd
import pytest
from small_shards import expressed, vocabulary_of, write_data
from told_apart import files_of, measured, shuffled, untrained

from censusformer.cli import main
from censusformer.report.findings import learned
from censusformer.tokens.cells import Categories

SAMPLES = 8
SIZE = ["--model-n-layers", "1", "--model-d-model", "48", "--model-n-heads", "4", "--model-d-ff", "64"]
TRAIN = ["--train-batch-size", "16", "--train-lr", "0.005"]


def sampled(cells, name):
    labels = Categories.of([f"d:{name}{i % SAMPLES}" for i in range(len(cells))])
    return replace(cells, sample=labels, dataset_id=Categories.of(["d"] * len(cells)))


def write(folder, change):
    vocabulary = vocabulary_of(80)
    parts = {"train": (700, 1), "valid": (80, 2), "test": (160, 3)}
    cells = {name: sampled(expressed(n, seed=seed), name) for name, (n, seed) in parts.items()}
    cells = {name: part if name == "test" else change(part) for name, part in cells.items()}
    folder.mkdir()
    write_data(folder, cells, vocabulary)
    names = [f"d:{side}{i}" for side in ("train", "valid", "test") for i in range(SAMPLES)]
    status = ["test" if "test" in name else "train" for name in names]
    samples = pd.DataFrame({"sample": names, "dataset_id": "d", "status": status, "person": names})
    samples.to_parquet(folder / "samples.parquet")
    return folder


@pytest.fixture(name="found", scope="module")
def _found(tmp_path_factory):
    """Duels of each model on the same held-out cells, beside baselines of the true training cells."""
    folder = tmp_path_factory.mktemp("apart")
    real = write(folder / "real", lambda cells: cells)
    models = {"untrained": folder / "untrained.pt"}
    for name, data, epochs in (("good", real, 16), ("shuffled", write(folder / "mixed", shuffled), 4)):
        options = [*SIZE, *TRAIN, "--train-epochs", str(epochs)]
        assert main(["pretrain", *files_of(data), "--out", str(folder / name), *options]) == 0
        models[name] = folder / name / "best_model.pt"
    untrained(models["good"], models["untrained"])
    return {name: measured(path, real, folder / f"{name}-evaluation") for name, path in models.items()}


def error(found, name, head):
    return next(duel.model for duel in found[name] if duel.head == head)


def duel(found, name, head, baseline):
    return next(duel for duel in found[name] if (duel.head, duel.baseline) == (head, baseline))


@pytest.mark.parametrize("head", ["gep", "gepc"])
def test_the_order_of_the_errors(found, head):
    good, mixed, fresh = (error(found, name, head) for name in ("good", "shuffled", "untrained"))
    constant = duel(found, "good", head, "constant").other
    mean = duel(found, "good", head, "gene_mean").other
    assert good < mean < mixed < fresh
    assert mixed == pytest.approx(constant, rel=0.08)
    assert fresh > 1.5 * constant


@pytest.mark.parametrize("head", ["gep", "gepc"])
def test_intervals_say_so_too(found, head):
    assert duel(found, "good", head, "gene_mean").low > 0
    for name in ("shuffled", "untrained"):
        assert duel(found, name, head, "gene_mean").high < 0


def test_the_report_says_which_one_learned(found):
    said = {name: learned(duels) for name, duels in found.items()}
    assert said["good"].startswith("It learned what genes say of each other")
    assert said["shuffled"].startswith("It learned nothing of use")
    assert said["untrained"].startswith("It learned nothing of use")
