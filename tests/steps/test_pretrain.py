import csv
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from small_shards import expressed, vocabulary_of, write_data

from censusformer.cli import main
from censusformer.training import load_model

SHAPE = ["--model-n-layers", 1, "--model-d-model", 16, "--model-n-heads", 2, "--model-d-ff", 16]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    cells = expressed(170)
    splits = {"train": cells.take(np.arange(20, 170)), "valid": cells.take(np.arange(20)), "test": cells.take([])}
    return write_data(tmp_path_factory.mktemp("shards"), splits, vocabulary_of(80))


def command(folder, out, *more):
    files = ["--shards", folder / "shards.json", "--vocab", folder / "vocab.json", "--out", out]
    return [str(word) for word in ["pretrain", *files, *SHAPE, "--train-batch-size", 16, "--threads", 1, *more]]


def start(folder, out, *more):
    """The step in a process of its own."""
    words = [sys.executable, "-m", "censusformer", *command(folder, out, *more)]
    return subprocess.Popen(
        words, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, stderr=subprocess.DEVNULL
    )


def curve(out):
    with (out / "metrics.csv").open() as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def test_results(folder, tmp_path, capfd):
    out, work = tmp_path / "run", tmp_path / "elsewhere" / "work"
    assert main(command(folder, out, "--work", work, "--train-epochs", 2)) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "args.json", "best_model.pt", "last.ckpt", "metrics.csv", "tensorboard", "vocab.json"]  # fmt: skip
    assert [path.name for path in work.glob("*/*")] == ["about.json"]
    assert (out / "vocab.json").read_bytes() == (folder / "vocab.json").read_bytes()
    model, about = load_model(out / "best_model.pt")
    assert (model.config.n_genes, model.config.norm, model.config.gene_bias) == (80, "pre", True)
    assert about["vocab_sha256"] == json.loads((out / "vocab.json").read_text())["sha256"]
    assert (about["n_bins"], about["max_length"], about["args"]["train"]["lr"]) == (51, 61, 2e-3)
    assert torch.load(out / "last.ckpt", weights_only=True)["state"]["step"] == 20
    assert "epoch 2: valid GEP" in capfd.readouterr().err


def test_args_json_tells_all_and_no_path(folder, tmp_path):
    assert main(command(folder, tmp_path / "run", "--train-max-steps", 3, "--mask-ratios", 0.3, 0.6)) == 0
    text = (tmp_path / "run" / "args.json").read_text()
    args = json.loads(text)
    assert str(tmp_path) not in text
    assert str(folder) not in text
    assert args["mask"] == {"ratios": [0.3, 0.6], "draw": "cell"}
    assert args["recipe"]["optimizer"] == "adamw"
    assert args["used"] == {"device": "cpu", "devices": 1, "precision": "32-true", "attention": "cpu", "threads": 1}
    assert args["data"]["train_cells"] == 150
    assert args["data"]["train_tokens"] > 150 * 20
    assert args["parameters"]["total"] == args["parameters"]["embedding"] + args["parameters"]["non_embedding"]
    assert args["result"]["steps"] == 3
    assert args["result"]["cells_per_second"] > 0
    assert args["result"]["peak_memory_bytes"] > 2**20
    assert args["versions"]["torch"] == torch.__version__


def step_of(out):
    """The step of the work folder's checkpoint; 0 where there is none."""
    return max((torch.load(path)["state"]["step"] for path in (out / "work").glob("*/last.ckpt")), default=0)


LONG = ["--train-epochs", 20, "--execution-checkpoint-minutes", 0.005]


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole")
    assert main(command(folder, out, *LONG)) == 0
    return out


def run_to_exit(words):
    sys.exit(main(words))


def test_killed_again_and_again_at_random_moments_it_ends_as_if_nothing_had_been(folder, whole, tmp_path):
    """By SIGTERM, SIGURG and SIGKILL in turn, up to the end of a run; a checkpoint is written at each step."""
    rng, at, out = np.random.default_rng(0), [], tmp_path / "cut"
    words = command(folder, out, *LONG[:2], "--execution-checkpoint-minutes", 0)
    servers = multiprocessing.get_context("forkserver")  # has imported what takes seconds
    servers.set_forkserver_preload(
        ["censusformer.training.session", "lightning.fabric", "torch._dynamo", "pandas", "pytest"]
    )
    for number in itertools.cycle([signal.SIGTERM, signal.SIGKILL, signal.SIGURG]):
        process, before, some = servers.Process(target=run_to_exit, args=(words,)), step_of(out), rng.integers(1, 40)
        process.start()
        while process.is_alive() and step_of(out) < before + some:
            time.sleep(0.01)
        process.join(rng.uniform(0, 0.02))
        if process.is_alive():
            os.kill(process.pid, number)
        process.join(60)
        if process.exitcode == 0:
            break
        assert process.exitcode in (-number, 128 + number)
        at.append(step_of(out))
        assert before < at[-1] < 200 or (out / "best_model.pt").exists()  # all steps were taken
    assert len(at) >= 6 and sum(step % 10 > 0 for step in at) >= 3, at  # an epoch has 10 steps
    assert curve(out) == curve(whole)
    assert (out / "best_model.pt").read_bytes() == (whole / "best_model.pt").read_bytes()
    one, two = (torch.load(path / "last.ckpt", weights_only=True) for path in (out, whole))
    assert all(torch.equal(one["model"][key], two["model"][key]) for key in two["model"])
    assert not step_of(out)


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(folder, tmp_path, monkeypatch):
    """The last batch has one cell, so that one of the two has none of it; the others go in several parts."""
    for name, value in (("NTASKS", 1), ("PROCID", 0), ("LOCALID", 0), ("NODEID", 0)):
        monkeypatch.setenv(f"SLURM_{name}", str(value))  # as in a job of SLURM's that starts one process
    more = ["--train-epochs", 3, "--train-batch-size", 149, "--model-dropout", 0, "--execution-log-every", 1]
    assert main(command(folder, tmp_path / "one", *more)) == 0
    more += ["--execution-devices", 2, "--execution-max-tokens", 700]
    assert start(folder, tmp_path / "two", *more).wait(300) == 0
    one, two = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert len(one) == len(two) > 30
    for a, b in zip(one, two, strict=True):
        assert float(a.pop("mse")) == pytest.approx(float(b.pop("mse")), rel=1e-5)
        assert a == b
    assert json.loads((tmp_path / "two" / "args.json").read_text())["used"]["devices"] == 2


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    """A long run of one process without dropout, whose draws hang on the process."""
    out = tmp_path_factory.mktemp("undisturbed")
    assert main(command(folder, out, *LONG, "--model-dropout", 0, "--execution-log-every", 1)) == 0
    return out


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_a_stopped_run_goes_on_with_another_number_of_processes(folder, undisturbed, tmp_path, before, after):
    more = [*LONG, "--model-dropout", 0, "--execution-log-every", 1, "--execution-devices"]
    process = start(folder, tmp_path, *more, before)
    while process.poll() is None and not step_of(tmp_path):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert 0 < step_of(tmp_path) < 200
    assert start(folder, tmp_path, *more, after).wait(300) == 0
    one, two = curve(undisturbed), curve(tmp_path)
    assert len(one) == len(two) > 200 * 3
    for a, b in zip(one, two, strict=True):
        assert float(a.pop("mse")) == pytest.approx(float(b.pop("mse")), rel=1e-3)
        assert a == b
    assert json.loads((tmp_path / "args.json").read_text())["used"]["devices"] == after


def test_a_run_that_ended_before_it_was_published_is_published(folder, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        killed_before_the_end(patch)
        assert main(command(folder, tmp_path, "--train-max-steps", 3)) == 1
    assert main(command(folder, tmp_path, "--train-max-steps", 3)) == 0
    assert (tmp_path / "best_model.pt").exists()


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["--mask-ratios", 0.5, 1.0], "mask.ratios"),
        (["--model-n-heads", 3], "model.n_heads"),
        (["--model-dropout", 1], "model.dropout"),
        (["--train-epochs", 0], "train.epochs"),
        (["--train-batch-size", 0], "train.batch_size"),
        (["--train-lr", 0], "train.lr"),
        (["--train-lr", "nan"], "train.lr"),
        (["--train-seed", -1], "train.seed"),
        (["--train-recipe", "quick"], "train.recipe"),
        (["--train-max-steps", 0], "train.max_steps"),
        (["--train-weight-decay", -1], "train.weight_decay"),
        (["--train-early-stopping", 0], "train.early_stopping"),
        (["--execution-precision", "64"], "execution.precision"),
        (["--execution-precision", "16"], "execution.precision"),
        (["--execution-attention", "flash"], "execution.attention"),
        (["--execution-attention", "varlen"], "execution.attention"),
        (["--execution-log-every", 0], "execution.log_every"),
        (["--execution-max-tokens", 0], "execution.max_tokens"),
    ],
)
def test_bad_settings_name_the_key(folder, tmp_path, capfd, words, key):
    assert main(command(folder, tmp_path, *words)) == 2
    message = capfd.readouterr().err
    assert key in message
    assert "Traceback" not in message


def test_a_boolean_is_true_or_false(folder, tmp_path):
    with pytest.raises(SystemExit):
        main(command(folder, tmp_path, "--execution-compile", "yes"))


def test_empty_splits_say_what_to_change(tmp_path, capfd):
    cells = expressed(30)
    none = cells.take([])
    for name, splits, key in (
        ("valid", {"train": cells, "valid": none, "test": none}, "split.valid_fraction"),
        ("train", {"train": none, "valid": cells, "test": none}, "census.max_cells"),
    ):
        (tmp_path / name).mkdir()
        folder = write_data(tmp_path / name, splits, vocabulary_of(80))
        assert main(command(folder, tmp_path / "out")) == 2
        assert key in capfd.readouterr().err


def test_another_vocabulary_is_refused(folder, tmp_path, capfd):
    vocabulary_of(79).write(tmp_path / "vocab.json")
    words = command(folder, tmp_path / "out")
    words[words.index("--vocab") + 1] = str(tmp_path / "vocab.json")
    assert main(words) == 2
    message = capfd.readouterr().err
    assert "shards.json" in message
    assert "vocab.json" in message


def killed_before_the_end(patch):
    """All steps are taken, nothing is published."""

    def fail(work, out):
        raise OSError(28, "No space left on device", str(out))

    patch.setattr("censusformer.training.session.publish", fail)


def test_another_configuration_leaves_an_interrupted_run_alone(folder, tmp_path, monkeypatch, capfd):
    one, other = (command(folder, tmp_path, "--train-max-steps", 3, *more) for more in ((), ("--mask-draw", "run")))
    with monkeypatch.context() as patch:
        killed_before_the_end(patch)
        assert main(one) == 1
    assert step_of(tmp_path) == 3
    assert main(other) == 0
    said = capfd.readouterr().err
    assert "unfinished run with another mask.draw: not used" in said
    assert step_of(tmp_path) == 3
    assert main(one) == 0
    assert "going on from step 3 of 3" in capfd.readouterr().err


def test_edited_code_starts_anew_unless_the_folder_is_renamed(folder, tmp_path, monkeypatch, capfd):
    words = command(folder, tmp_path, "--train-max-steps", 3)
    with monkeypatch.context() as patch:
        killed_before_the_end(patch)
        assert main(words) == 1
        patch.setattr("censusformer.steps.pretrain.code_digest", lambda module: "edited")
        assert main(words) == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "mv" in line]
    _, old, new = line[line.index("mv") :].split()
    shutil.rmtree(new)
    Path(old).rename(new)
    monkeypatch.setattr("censusformer.steps.pretrain.code_digest", lambda module: "edited")
    assert main(words) == 0
    assert "going on from step 3 of 3" in capfd.readouterr().err


def test_a_finished_reference_run_goes_on_when_it_is_made_longer(folder, tmp_path, capfd):
    reference = ("--train-recipe", "reference", "--train-epochs")
    assert main(command(folder, tmp_path / "whole", *reference, 3)) == 0
    assert main(command(folder, tmp_path / "longer", *reference, 2)) == 0
    assert (tmp_path / "longer/last.ckpt").stat().st_nlink == 2  # kept without taking space
    for path in (tmp_path / "longer").glob("*.*"):  # Snakemake removes outputs before a job runs
        path.unlink()
    capfd.readouterr()
    assert main(command(folder, tmp_path / "longer", *reference, 3)) == 0
    assert "the finished run of 2 epochs goes on to 3" in capfd.readouterr().err
    assert curve(tmp_path / "longer") == curve(tmp_path / "whole")
    one, two = (torch.load(tmp_path / name / "last.ckpt") for name in ("longer", "whole"))
    assert all(torch.equal(one["model"][key], two["model"][key]) for key in two["model"])
    best, same = (load_model(tmp_path / name / "best_model.pt") for name in ("longer", "whole"))
    assert best[1] == same[1]
    assert all(torch.equal(best[0].state_dict()[key], same[0].state_dict()[key]) for key in same[0].state_dict())


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_finished_run_is_trained_again_when_it_is_asked_for_again(folder, tmp_path, capfd, epochs):
    words = ("--train-recipe", "reference", "--train-epochs")
    assert main(command(folder, tmp_path, *words, 2)) == 0
    capfd.readouterr()
    assert main(command(folder, tmp_path, *words, epochs)) == 0
    said = capfd.readouterr().err
    assert "going on" not in said
    assert "epoch 1: valid" in said
    assert torch.load(tmp_path / "last.ckpt")["state"]["step"] == 10 * epochs


def test_an_interrupted_run_made_shorter_than_it_is_starts_anew(folder, tmp_path, monkeypatch, capfd):
    words = ("--train-recipe", "reference", "--train-epochs")
    with monkeypatch.context() as patch:
        killed_before_the_end(patch)
        assert main(command(folder, tmp_path, *words, 2)) == 1
    assert main(command(folder, tmp_path, *words, 1)) == 0
    assert "past the end of this shorter run" in capfd.readouterr().err
    assert torch.load(tmp_path / "last.ckpt")["state"]["step"] == 10


def test_recipe_fast_says_why_it_cannot_be_made_longer(folder, tmp_path, capfd):
    assert main(command(folder, tmp_path, "--train-epochs", 1)) == 0
    assert main(command(folder, tmp_path, "--train-epochs", 2)) == 0
    assert "recipe fast cannot go on from the finished 1 epochs to 2" in capfd.readouterr().err
    assert [path.name for path in (tmp_path / "work").glob("*/*")] == ["about.json"]


def test_two_processes_do_not_share_a_work_folder(folder, tmp_path, capfd, monkeypatch):
    from censusformer.training import work

    words = command(folder, tmp_path, "--train-max-steps", 2)
    with monkeypatch.context() as patch:
        killed_before_the_end(patch)
        main(words)
    (place,) = (tmp_path / "work").iterdir()
    with work.locked(place):
        assert main(words) == 2
    assert "is in use: another process trains there" in capfd.readouterr().err
    assert main(words) == 0
