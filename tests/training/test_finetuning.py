"""Fine-tuning: what moves and what stays, when it stops, and that a task is one module."""

import dataclasses

import numpy as np
import pytest
import torch
from small_shards import cells_of
from torch import nn

from censusformer.errors import InputError
from censusformer.model import ModelConfig, Pretrainer
from censusformer.training import embed_cells, tasks
from censusformer.training.finetuning import FinetuneSettings, Job, fit, together, with_vectors
from censusformer.training.tasks import Targets, Task, task_of

ANNOTATION = task_of("annotation")


def labelled(n, seed=0):
    """Cells of two kinds that share no gene."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 2, n)
    lists = [np.sort(rng.choice(40, 20, replace=False)) + 40 * kind for kind in kinds]
    keys = rng.integers(0, 2**63, n, dtype=np.uint64)
    return cells_of(lists, [rng.integers(1, 51, 20) for _ in lists], keys), np.array(["a", "b"])[kinds]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Pretrainer(ModelConfig(80, 2, 16, 4, 16, 0.1)).eval()


def job_of(labels, **settings):
    targets = ANNOTATION.targets(labels)
    how = FinetuneSettings(**{"epochs": 15, "batch_size": 16, "lr": 1e-2, **settings})
    return Job(ANNOTATION, targets.about, how), targets.values


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("mode", ["frozen", "full"])
def test_it_learns_and_the_pretrained_model_stays(model, mode):
    before = weights(model)
    cells, labels = labelled(150)
    job, values = job_of(labels, mode=mode)
    examples = with_vectors(model, cells, values, job.settings)
    found = fit(model, job, examples.take(np.arange(80)), examples.take(np.arange(80, 110)))
    test = examples.take(np.arange(110, 150))
    assert ANNOTATION.scores(found.outputs(job, test), test.targets)["accuracy"] > 0.9
    assert same(before, weights(model))
    assert (mode == "frozen") == same(before, weights(found.encoder))
    assert found.losses[-1] < found.losses[0]


@pytest.mark.parametrize("mode", ["frozen", "full"])
def test_the_same_seed_gives_the_same_weights_and_the_order_of_cells_plays_no_part(model, mode):
    cells, labels = labelled(60)
    job, values = job_of(labels, mode=mode, epochs=2)
    examples = with_vectors(model, cells, values, job.settings)
    turned = examples.take(np.arange(60)[::-1].copy())
    one, again, other = (fit(model, job, x) for x in (examples, examples, turned))
    assert same(weights(one.head), weights(again.head))
    for name, value in weights(one.head).items():
        torch.testing.assert_close(value, weights(other.head)[name], rtol=1e-4, atol=1e-4)
    changed = dataclasses.replace(job, settings=dataclasses.replace(job.settings, seed=1))
    assert not same(weights(one.head), weights(fit(model, changed, examples).head))


def test_it_stops_where_held_out_cells_learn_no_more_and_keeps_the_best(model):
    cells, labels = labelled(60)
    job, values = job_of(labels, epochs=60, patience=3)
    examples = with_vectors(model, cells, values, job.settings)
    wrong = dataclasses.replace(examples, targets=1 - values)  # the more is learned, the worse it gets
    found = fit(model, job, examples, wrong)
    assert found.epochs == 1
    assert len(found.losses) == 4  # the best, and three that are worse
    shorter = dataclasses.replace(job, settings=dataclasses.replace(job.settings, epochs=1))
    assert same(weights(found.head), weights(fit(model, shorter, examples).head))


def test_without_held_out_cells_all_epochs_are_run(model):
    cells, labels = labelled(30)
    job, values = job_of(labels, epochs=3)
    found = fit(model, job, with_vectors(model, cells, values, job.settings))
    assert (found.epochs, found.losses) == (3, ())


def test_frozen_embeddings_are_those_of_embed_cells(model):
    cells, labels = labelled(10)
    job, values = job_of(labels)
    examples = with_vectors(model, cells, values, job.settings)
    np.testing.assert_array_equal(examples.vectors, embed_cells(model, cells))
    both = together(examples.take(np.arange(4)), examples.take(np.arange(4, 10)))
    np.testing.assert_array_equal(both.vectors, examples.vectors)
    np.testing.assert_array_equal(both.cells.cell, cells.cell)
    full = with_vectors(model, cells, values, dataclasses.replace(job.settings, mode="full"))
    fresh = fit(model, job, examples)
    np.testing.assert_allclose(fresh.outputs(job, full), fresh.outputs(job, examples), rtol=1e-4, atol=1e-4)


def test_a_loss_that_is_not_finite_names_the_rate(model):
    cells, labels = labelled(30)
    job, values = job_of(labels, lr=1e30, epochs=5)
    with pytest.raises(InputError, match=r"not finite in epoch \d: lower the learning rate \(1e\+30\)"):
        fit(model, job, with_vectors(model, cells, values, job.settings))


def test_settings_are_checked():
    for wrong in ({"mode": "half"}, {"epochs": 0}, {"lr": 0}, {"weight_decay": -1}, {"patience": 0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            FinetuneSettings(**wrong)


def test_labels_that_cannot_be_learned_are_refused():
    with pytest.raises(InputError, match="all cells have the label 'a'"):
        ANNOTATION.targets(np.array(["a", "a"]))
    with pytest.raises(InputError, match=r"the label 'c' is seen once.*--ignore 'c'"):
        ANNOTATION.targets(np.array(["a", "a", "c", "b", "b"]))


def test_the_task_of_the_documentation_is_one_module(model, root, tmp_path, monkeypatch):
    """A file in the folder is a task: the one that docs/finetune.md shows, a quantity of each cell."""
    code = (root / "docs/finetune.md").read_text().split("```python\n")[1].split("```")[0]
    (tmp_path / "quantity.py").write_text(code)
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(tmp_path)])
    assert "quantity" in tasks.names()
    task = task_of("quantity")
    cells, labels = labelled(80)
    targets = task.targets(np.where(labels == "a", "1.5", "-2"))
    job = Job(task, targets.about, FinetuneSettings(epochs=30, lr=3e-2, batch_size=16))
    examples = with_vectors(model, cells, targets.values, job.settings)
    found = fit(model, job, examples.take(np.arange(60)))
    test = examples.take(np.arange(60, 80))
    assert task.scores(found.outputs(job, test), test.targets)["mse"] < 0.5 * test.targets.var()
    with pytest.raises(InputError, match="task 'nonsense': one of annotation, integration, quantity, response"):
        task_of("nonsense")


def test_every_task_says_what_it_is():
    for name in tasks.names():
        task = task_of(name)
        assert isinstance(task, Task)
        assert task.summary
        assert callable(task.head)
    assert isinstance(ANNOTATION.head(4, {"classes": ["a", "b"]}), nn.Module)
    assert isinstance(ANNOTATION.targets(np.array(list("aabb"))), Targets)
