import json
import shutil

import numpy as np
import pytest
import yaml
from small_shards import expressed, vocabulary_of, write_data

from censusformer.cli import main
from censusformer.training import work

CONFIG = {
    "mask": {"ratios": [0.5], "draw": "cell"},
    "model": {"n_layers": 1, "d_model": 16, "n_heads": 2, "d_ff": 16, "dropout": 0.1},
    "train": {"epochs": 1, "batch_size": 16, "lr": 2e-3, "seed": 0, "recipe": "reference", "max_steps": None},
}


def pretrain(run, config):
    options = [
        word
        for section, keys in config.items()
        for key, value in keys.items()
        if value is not None
        for word in (f"--{section}-{key.replace('_', '-')}", *(value if isinstance(value, list) else [value]))
    ]
    files = ["--shards", run.parent / "shards.json", "--vocab", run.parent / "vocab.json", "--out", run]
    assert main([str(word) for word in ["pretrain", *files, "--threads", 1, *options]]) == 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished reference run, with the config that it came from."""
    cells = expressed(60)
    splits = {"train": cells.take(np.arange(10, 60)), "valid": cells.take(np.arange(10)), "test": cells.take([])}
    results = tmp_path_factory.mktemp("clean")
    (results / "demo").mkdir()
    run = write_data(results / "demo", splits, vocabulary_of(80)) / "base"
    pretrain(run, CONFIG)
    (run / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    return results


@pytest.fixture
def results(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "results")


@pytest.fixture
def stale(results):
    """Beside it what an interrupted run of another rate left."""
    (kept,) = (results / "demo/base/work").iterdir()
    about = json.loads((kept / "about.json").read_text())
    about["identity"]["train.lr"], about["finished"] = 1e-5, False
    other = results / "demo/base/work" / work.About(**about).name
    other.mkdir()
    (other / "about.json").write_text(json.dumps(about))
    (other / "last.ckpt").write_bytes(b"x" * 1234567)
    return other


def test_what_a_longer_run_would_go_on_from_stays(results, capfd):
    before = sorted(results.rglob("*"))
    assert main(["clean", "--results", str(results)]) == 0
    assert sorted(results.rglob("*")) == before
    assert "0 B removed" in capfd.readouterr().err


def test_a_stale_folder_is_named_then_removed(results, stale, capfd):
    before = sorted(results.rglob("*"))
    assert main(["clean", "--dry-run", "--results", str(results)]) == 0
    said = capfd.readouterr().err
    assert f"would remove {stale} (1.2 MB): unfinished, with another train.lr" in said
    assert sorted(results.rglob("*")) == before
    assert main(["clean", "--results", str(results)]) == 0
    assert f"removing {stale}" in capfd.readouterr().err
    assert sorted(results.rglob("*")) == [path for path in before if path != stale and stale not in path.parents]


def test_a_changed_config_makes_the_old_run_stale(results, capfd):
    (old,) = (results / "demo/base/work").iterdir()
    changed = {**CONFIG, "model": {**CONFIG["model"], "dropout": 0.3}}
    (results / "demo/base/config.yaml").write_text(yaml.safe_dump(changed))
    assert main(["clean", "--results", str(results)]) == 0
    said = capfd.readouterr().err
    assert f"removing {old}" in said
    assert ": finished, with another model.dropout" in said
    assert not old.exists()


def test_a_folder_in_use_is_kept(results, stale, capfd):
    with work.locked(stale):
        assert main(["clean", "--results", str(results)]) == 0
    assert "is in use" in capfd.readouterr().err
    assert stale.exists()


def test_what_cannot_be_told_is_left_alone(results, stale, capfd):
    (results / "demo/base/config.yaml").unlink()
    assert main(["clean", "--results", str(results)]) == 0
    assert "is left alone" in capfd.readouterr().err
    assert stale.exists()


def test_a_wrong_folder_is_named(tmp_path, capfd):
    assert main(["clean", "--results", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capfd.readouterr().err
