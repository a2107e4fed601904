"""The benchmarks of training run, and print what the documentation quotes."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from small_shards import expressed, vocabulary_of, write_data


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    cells = expressed(120)
    splits = {
        "train": cells.take(np.arange(20, 120)),
        "valid": cells.take(np.arange(20)),
        "test": cells.take(np.arange(5)),
    }
    return write_data(tmp_path_factory.mktemp("shards"), splits, vocabulary_of(80))


def figures(root, name, *options):
    command = [sys.executable, str(root / "benchmarks" / name), "--json", *map(str, options)]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_step_in_all_layouts(root, shards):
    how = ["--batch-size", 4, "--steps", 2, "--long-steps", 1, "--long-warmup", 0, "--threads", 1]
    found = figures(root, "train.py", "--shards", shards, *how)
    assert found["ratio_vs_padded_1201"] > found["ratio_vs_padded_longest"] > 0
    assert float(found["loss_packed_against_padded"]) < 1e-5  # the same function, whatever the layout
    assert found["tokens_per_s"] > found["cells_per_s"] > 0
    assert 0 < found["mfu"] < 1
    (packed,) = [row for row in found["rows"] if row["layout"].startswith("(c)")]
    tokens = packed["tokens/s"] / packed["cells/s"]  # of a cell, with <cls>
    n, layers, d = found["N"], found["L"], found["d"]
    least = packed["cells/s"] * (6 * n * tokens + 12 * layers * d * tokens**2) / found["peak_flops"]
    assert packed["MFU"] == pytest.approx(least, rel=0.1)  # the mean of squares is over the square of the mean
    assert packed["MFU"] >= least * 0.999


def test_the_loader(root):
    found = figures(root, "loader.py", "--cells", 4000, "--repeats", 1)
    assert found["cells_per_s_per_core"] > found["cells_per_s_per_core_with_masks"] > 0
    assert found["window_cells_per_s_per_core"] > 0
    assert found["shuffle_entropy"] == pytest.approx(found["ideal_entropy"], abs=0.1)
    assert found["window_shuffle_entropy"] < found["shuffle_entropy"]
    assert found["tokens_a_cell"] == pytest.approx(317, rel=0.02)


def test_time_to_quality(root, shards, tmp_path):
    command = [sys.executable, str(root / "benchmarks/recipes.py"), "--shards", str(shards), "--results", str(tmp_path)]
    options = ["--seeds", "0", "--fast-epochs", "0.5", "--changes", "fast with post-norm", "--change-epochs", "0.5"]
    for only in ([], ["--table"]):
        done = subprocess.run([*command, *options, *only], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        head, _, *rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()]
        assert [row[:3] for row in rows] == [
            ["reference", "6", "1"],
            ["fast", "0.5", "1"],
            ["fast with post-norm", "0.5", "1"],
        ]
        assert dict(zip(head, rows[0], strict=True))["reaches the reference's end"] == "1 of 1"
        losses = [float(row[head.index("gep")]) for row in rows]
        assert losses[1] < losses[0]  # `fast` begins at the genes' means, the reference at zero
