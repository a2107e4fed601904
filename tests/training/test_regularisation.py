"""Dropout, weight decay and early stopping: each narrows the gap between fixed training cells and validation."""

import csv
from dataclasses import replace

import pytest
from small_shards import expressed

from censusformer.training import load_model
from censusformer.training.session import start_fabric
from censusformer.training.trainer import BEST, METRICS, Trainer

EPOCHS = 40


@pytest.fixture(scope="module")
def few(data):
    """48 training cells, few enough to be learned by heart, and 60 for validation."""
    train = expressed(48, seed=11)
    return replace(data, train=train, fixed=train, valid=expressed(60, seed=12))


def losses(work, split):
    """The sum of both heads over all ratios after each epoch, from epoch 0."""
    with (work / METRICS).open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split and row["head"] == "sum"]
    return [float(row["mse"]) for row in rows if not row["mask_ratio"]]


@pytest.fixture(scope="module")
def run(few, settings_of, tmp_path_factory):
    """Train with some options; returns the trainer, both curves and the folder."""

    def train(dropout=0.0, **options):
        work = tmp_path_factory.mktemp("run")
        model = {"d_model": 32, "d_ff": 64, "dropout": dropout}
        how = settings_of(model, epochs=EPOCHS, batch_size=16, lr=1e-2, **{"weight_decay": 0.0, **options})
        trainer = Trainer(start_fabric(how.execution), how, few, work)
        trainer.fit()
        return trainer, losses(work, "train_fixed"), losses(work, "valid"), work

    return train


@pytest.fixture(scope="module")
def plain(run):
    """Without any of them."""
    return run()


def gap(result):
    """Validation less training, at the end."""
    _, fixed, valid, _ = result
    return valid[-1] - fixed[-1]


def test_without_regularisation_it_learns_by_heart(plain):
    _, fixed, valid, _ = plain
    assert gap(plain) > 40
    assert fixed[-1] < 0.9 * fixed[2]
    assert valid[-1] > 1.03 * min(valid)


def test_dropout_narrows_the_gap(run, plain):
    assert gap(run(dropout=0.3)) < 0.7 * gap(plain)


def test_weight_decay_narrows_the_gap(run, plain):
    decayed = run(weight_decay=2.0)
    assert gap(decayed) < 0.7 * gap(plain)
    one, two = (trainer.module.encoder.embedding.weight.norm() for trainer, *_ in (decayed, plain))
    assert one < 0.5 * two


def test_early_stopping_ends_before_the_gap_opens(run, plain):
    patience = 4
    trainer, fixed, valid, work = run(early_stopping=patience)
    best = trainer.state.best_epoch
    assert len(valid) - 1 == best + patience < EPOCHS
    assert valid == plain[2][: len(valid)]  # it changes no step
    assert valid[best] == min(valid[1:]) == load_model(work / BEST)[1]["valid"]["sum"]
    assert valid[-1] - fixed[-1] < 0.7 * gap(plain)
    assert len(plain[2]) - 1 == EPOCHS


def test_a_run_that_stopped_early_stays_stopped(settings, data, tmp_path):
    """Also where it is asked for more epochs, and where it was killed between evaluation and stopping."""

    def train(epochs):
        how = settings(recipe="reference", lr=0.1, epochs=epochs, early_stopping=1)  # a rate that diverges
        trainer = Trainer(start_fabric(how.execution), how, data, tmp_path)
        trainer.fit()
        return trainer.state.step

    step = train(8)
    assert 10 < step < 80
    assert train(8) == train(16) == step
