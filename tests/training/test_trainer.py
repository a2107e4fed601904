"""The loop: curves that repeat, runs that go on exactly, what is logged, and that it learns."""

import csv
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_shards import expressed

from censusformer.errors import InputError
from censusformer.tokens.masking import evaluation_mask
from censusformer.training import load_model, predict_masked, vocabulary_of
from censusformer.training.batches import Batch
from censusformer.training.session import start_fabric
from censusformer.training.trainer import BEST, BOARD, LAST, METRICS, Trainer
from censusformer.training.window import fixed_cells


def train(settings, data, work, kind=Trainer):
    work.mkdir(exist_ok=True)
    trainer = kind(start_fabric(settings.execution), settings, data, work)
    trainer.fit()
    return trainer


def rows_of(work):
    with (work / METRICS).open() as file:
        return list(csv.DictReader(file))


def curve(work):
    """All of metrics.csv but the clock."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows_of(work)]


def weights(trainer):
    return trainer.module.state_dict()


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def stopping_at(step, action):
    """A trainer to which something happens right after a step."""

    class Disturbed(Trainer):
        def _step(self, batch):
            super()._step(batch)
            if self.state.step == step:
                action()

    return Disturbed


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("recipe", ["fast", "reference"])
def test_same_seed_same_curve_bit_for_bit(settings, data, tmp_path, recipe):
    one, two = (train(settings(recipe=recipe), data, tmp_path / name) for name in "ab")
    assert curve(tmp_path / "a") == curve(tmp_path / "b")
    assert same(weights(one), weights(two))
    assert (tmp_path / "a" / BEST).read_bytes() == (tmp_path / "b" / BEST).read_bytes()
    other = train(settings(recipe=recipe, seed=1), data, tmp_path / "c")
    assert not same(weights(one), weights(other))


def test_execution_changes_no_curve(settings, data, tmp_path):
    train(settings(), data, tmp_path / "a")
    train(settings(execution={"num_workers": 0, "log_every": 3, "checkpoint_minutes": 0}), data, tmp_path / "b")
    assert curve(tmp_path / "a") == curve(tmp_path / "b")


def test_a_step_in_parts_is_the_same_step(settings, data, tmp_path, monkeypatch):
    """Whatever the parts, losses are means over the masked positions of the whole batch."""
    seen, parts = set(), Batch.parts
    monkeypatch.setattr(Batch, "parts", lambda *args: seen.add(len(parts(*args))) or parts(*args))
    how = {"model": {"dropout": 0.0}, "recipe": "reference"}  # whose eps hides gradients that are zero but for rounding
    whole = train(settings(**how), data, tmp_path / "whole")
    assert seen == {1}
    cut = train(settings(**how, execution={"max_tokens": 120}), data, tmp_path / "cut")
    assert max(seen) > 3
    for one, two in zip(curve(tmp_path / "whole"), curve(tmp_path / "cut"), strict=True):
        assert float(one.pop("mse")) == pytest.approx(float(two.pop("mse")), rel=1e-5)
        assert one == two
    for name, one in weights(whole).items():
        torch.testing.assert_close(weights(cut)[name], one, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGURG"])
def test_a_signal_in_the_middle_of_an_epoch_is_followed_by_an_exact_resume(settings, data, tmp_path, number):
    whole = train(settings(), data, tmp_path / "whole")
    stop = stopping_at(14, lambda: os.kill(os.getpid(), signal.Signals[number]))  # an epoch has 10 steps
    with pytest.raises(SystemExit) as raised:
        train(settings(), data, tmp_path / "cut", stop)
    assert raised.value.code == 128 + signal.Signals[number]
    trainer = train(settings(), data, tmp_path / "cut")
    assert same(weights(trainer), weights(whole))
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
    assert (tmp_path / "cut" / BEST).read_bytes() == (tmp_path / "whole" / BEST).read_bytes()


@pytest.mark.parametrize(("crash", "minutes"), [(4, 0), (10, 0), (17, 0), (17, 1000)])
def test_a_crash_at_any_step_is_followed_by_an_exact_resume(settings, data, tmp_path, crash, minutes):
    """With a checkpoint at each step, or at the ends of epochs alone (17 then goes back to 10)."""
    how = settings(recipe="reference", execution={"checkpoint_minutes": minutes})

    def fail():
        raise RuntimeError("no more power")

    whole = train(how, data, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="power"):
        train(how, data, tmp_path / "cut", stopping_at(crash, fail))
    trainer = train(how, data, tmp_path / "cut")
    assert same(weights(trainer), weights(whole))
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")


def test_a_signal_during_evaluation_is_obeyed_and_evaluated_again(settings, data, tmp_path, monkeypatch):
    whole = train(settings(), data, tmp_path / "whole")
    end_epoch, calls = Trainer._end_epoch, []

    def disturbed(self):
        calls.append(self.state.step)
        if self.state.step == 10:
            terminate()
        end_epoch(self)

    monkeypatch.setattr(Trainer, "_end_epoch", disturbed)
    with pytest.raises(SystemExit):
        train(settings(), data, tmp_path / "cut")
    monkeypatch.setattr(Trainer, "_end_epoch", end_epoch)
    trainer = train(settings(), data, tmp_path / "cut")
    assert calls == [0, 10]
    assert same(weights(trainer), weights(whole))
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")


def test_a_work_folder_of_another_run_is_refused(settings, data, tmp_path):
    train(settings(max_steps=2), data, tmp_path)
    with pytest.raises(InputError, match=r"another train\.lr"):
        train(settings(max_steps=2, lr=1e-3), data, tmp_path)
    with pytest.raises(InputError, match="another shards"):
        train(settings(max_steps=2), replace(data, sha256="0" * 64), tmp_path)


def test_the_reference_recipe_can_be_made_longer(settings, data, tmp_path):
    whole = train(settings(recipe="reference", epochs=2), data, tmp_path / "whole")
    train(settings(recipe="reference", epochs=1), data, tmp_path / "longer")
    trainer = train(settings(recipe="reference", epochs=2), data, tmp_path / "longer")
    assert same(weights(trainer), weights(whole))
    train(settings(recipe="fast", epochs=1), data, tmp_path / "fast")
    with pytest.raises(InputError, match=r"train\.epochs"):
        train(settings(recipe="fast", epochs=2), data, tmp_path / "fast")


def test_metrics(settings, data, tmp_path):
    trainer = train(settings(), data, tmp_path)
    rows = rows_of(tmp_path)
    assert list(rows[0]) == [
        "epoch",
        "step",
        "split",
        "head",
        "mask_ratio",
        "mse",
        "n_masked",
        "seconds",
        "span",
        "batches",
    ]
    kinds = {(row["split"], row["span"]) for row in rows}
    assert kinds == {("valid", "epoch"), ("train_fixed", "epoch"), ("train", "epoch"), ("train", "window")}
    for split in ("valid", "train_fixed"):
        at = [(row["epoch"], row["step"], row["head"], row["mask_ratio"]) for row in rows if row["split"] == split]
        heads, ratios = ("gep", "gepc", "sum"), ("", "0.25", "0.5", "0.75")
        steps = (("0", "0"), ("1", "10"), ("2", "20"))
        assert at == [(*step, head, ratio) for step in steps for ratio in ratios for head in heads]
    for one, two, both in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        assert [row["head"] for row in (one, two, both)] == ["gep", "gepc", "sum"]
        assert float(both["mse"]) == float(one["mse"]) + float(two["mse"])
    windows = [row for row in rows if row["span"] == "window" and row["head"] == "gep"]
    assert [(row["epoch"], row["step"], row["batches"]) for row in windows[:4]] == [
        ("1", "3", "3"), ("1", "6", "3"), ("1", "9", "3"), ("2", "12", "3")]  # fmt: skip
    best = min(float(row["mse"]) for row in rows if row["split"] == "valid" and row["head"] == "sum"
               and not row["mask_ratio"] and row["epoch"] != "0")  # fmt: skip
    assert load_model(tmp_path / BEST)[1]["valid"]["sum"] == best == trainer.state.best


def test_the_epochs_training_loss_is_the_mean_of_its_batches(settings, data, tmp_path):
    train(settings(execution={"log_every": 1}), data, tmp_path)
    rows = [row for row in rows_of(tmp_path) if row["split"] == "train" and row["head"] == "gepc"]
    batches = [float(row["mse"]) for row in rows if row["span"] == "window" and row["epoch"] == "2"]
    (epoch,) = [row for row in rows if row["span"] == "epoch" and row["epoch"] == "2"]
    assert len(batches) == int(epoch["batches"]) == 10
    assert np.mean(batches) == pytest.approx(float(epoch["mse"]), rel=1e-12)
    assert int(epoch["n_masked"]) == sum(
        int(r["n_masked"]) for r in rows if r["span"] == "window" and r["epoch"] == "2"
    )


def gene_mean_mse(data, cells):
    """MSE of each gene's mean bin over training cells, on the masks of evaluation."""
    mean, errors = data.mean_bins, []
    for ratio in (0.25, 0.5, 0.75):
        mask = evaluation_mask(cells, data.vocabulary.gene_words, ratio)
        errors.append((cells.values[mask] - mean[cells.genes[mask]]) ** 2)
    return np.concatenate(errors).mean()


def test_the_first_evaluation_is_near_the_gene_means(settings, data, tmp_path):
    """Recipe `fast` starts at the gene's mean bin; `reference` starts at zero."""
    start = {}
    for recipe in ("fast", "reference"):
        train(settings(recipe=recipe, max_steps=1), data, tmp_path / recipe)
        start[recipe] = [float(row["mse"]) for row in rows_of(tmp_path / recipe)[:2]]
    mean = gene_mean_mse(data, data.valid)
    assert start["fast"][0] == pytest.approx(mean, rel=1e-5)
    assert start["fast"][1] == pytest.approx(mean, rel=0.1)
    assert min(start["reference"]) > 2 * mean


def test_it_learns_more_than_the_gene_mean(settings, data, tmp_path):
    """Cells of three types in 40 genes: the visible genes tell the type, and so the hidden ones."""
    cells, valid = expressed(1500, 40, seed=5, mean=20), expressed(40, 40, seed=1, mean=20)
    easy = replace(data, train=cells, valid=valid, fixed=cells.take(fixed_cells(cells.cell, 40)))
    train(settings({"d_model": 32, "d_ff": 32, "dropout": 0.0}, epochs=12, lr=2e-3), easy, tmp_path)
    model, about = load_model(tmp_path / BEST)
    mean = gene_mean_mse(easy, valid)
    assert about["valid"]["gep"] < 0.5 * mean
    assert about["valid"]["gepc"] < 0.5 * mean
    mask = evaluation_mask(valid, data.vocabulary.gene_words, 0.5)
    for predicted in predict_masked(model, valid, mask):
        assert np.corrcoef(predicted, valid.values[mask])[0, 1] > 0.6


def test_best_model_is_the_epoch_with_the_lowest_validation_sum(settings, data, tmp_path, monkeypatch):
    sums = iter([(9.0, 9.0), (5.0, 4.0), (6.0, 6.0), (4.0, 5.0)])  # before training, then epochs 1 to 3
    seen = {}

    def measured(fabric, model, cells, *_):
        if len(cells) and cells is data.valid:
            seen["now"] = next(sums)
        return {None: (seen["now"], 1)}

    monkeypatch.setattr("censusformer.training.trainer.fixed_losses", measured)
    trainer = train(settings(epochs=3), data, tmp_path)
    model, about = load_model(tmp_path / BEST)
    assert (about["epoch"], about["step"], about["valid"]["sum"]) == (1, 10, 9.0)
    assert vocabulary_of(about, tmp_path / "copied.pt") == data.vocabulary
    assert about["binning"] == data.binning == {"method": "cell", "ties": "random", "seed": 3}
    assert not same(model.state_dict(), weights(trainer))


def test_a_loss_that_is_not_finite_names_the_rate_and_spares_the_checkpoint(settings, data, tmp_path):
    class Exploding(Trainer):
        def _step(self, batch):
            if self.state.step == 14:
                self.module.decoder.fc[4].bias.data.fill_(float("inf"))
            super()._step(batch)

    with pytest.raises(InputError, match=r"train\.lr"):
        train(settings(), data, tmp_path, Exploding)
    state = torch.load(tmp_path / LAST, weights_only=True)
    assert state["state"]["step"] == 10
    assert all(torch.isfinite(x).all() for x in state["model"].values())


def test_a_batch_larger_than_the_training_set(settings, data, tmp_path):
    trainer = train(settings(batch_size=10_000), data, tmp_path)
    assert trainer.state.step == 2
    assert trainer.state.cells == 2 * len(data.train)


def test_max_steps_ends_inside_an_epoch_with_an_evaluation(settings, data, tmp_path):
    trainer = train(settings(max_steps=13), data, tmp_path)
    assert trainer.state.step == trainer.state.evaluated == 13
    last = [(row["epoch"], row["step"], row["split"]) for row in rows_of(tmp_path)]
    assert last[-1] == ("2", "13", "train_fixed")


def test_tensorboard_files(settings, data, tmp_path):
    pytest.importorskip("tensorboard")
    train(settings(max_steps=3), data, tmp_path)
    assert list((tmp_path / BOARD).glob("events.out.tfevents*"))


def test_without_tensorboard_it_trains_all_the_same(settings, data, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with caplog.at_level("INFO", logger="censusformer"):
        train(settings(max_steps=3), data, tmp_path)
    assert "tensorboard is not installed" in caplog.text
    assert not (tmp_path / BOARD).exists()


def test_checkpoints_hold_no_code(settings, data, tmp_path):
    train(settings(max_steps=3), data, tmp_path)
    for name in (LAST, BEST):
        assert torch.load(tmp_path / name, weights_only=True)["version"] == 1


def interrupted(settings, data, work):
    """Stopped after the first of two epochs, with a best model."""
    with pytest.raises(SystemExit):
        train(settings(), data, work, stopping_at(14, terminate))


@pytest.mark.parametrize("name", [LAST, BEST])
@pytest.mark.parametrize("how", ["flip", "cut", "gone"])
def test_a_damaged_file_that_training_would_go_on_from_is_named(settings, data, tmp_path, name, how):
    interrupted(settings, data, tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content if how == "flip" else content[: len(content) // 2])
    if how == "gone":
        (tmp_path / name).unlink()
        if name == LAST:  # as if nothing had been: all is made anew
            assert train(settings(), data, tmp_path).state.step == 20
            return
    with pytest.raises(InputError, match=rf"{name} is (damaged|missing).*; training starts anew without the folder"):
        train(settings(), data, tmp_path)


def test_metrics_that_a_kill_left_behind_their_checkpoint_are_written_again(settings, data, tmp_path):
    train(settings(), data, tmp_path)
    expected = (tmp_path / METRICS).read_bytes()
    (tmp_path / METRICS).write_bytes(expected[: len(expected) // 2])
    train(settings(), data, tmp_path)
    assert (tmp_path / METRICS).read_bytes() == expected
