"""Bad input ends in one clear message that names what to change, and nothing already computed is lost."""

import os
import shutil
import subprocess

import pytest

from .conftest import SMALL

pytestmark = pytest.mark.slow


def results(project):
    return {path: path.stat().st_mtime_ns for path in project.path("census").rglob("*.h5ad")}


@pytest.mark.parametrize(
    ("census", "said"),
    [
        ({"uri": "data/no_such_soma"}, "census.uri"),
        ({"filter": "tissue_general == 'moon'"}, "census.filter"),
        ({"filter": "tissue_generall == 'blood'"}, "census.filter"),
        ({"test_cells": 1}, "census.test_cells"),
        ({"max_cells": 60}, "census.max_cells"),
    ],
    ids=["no_census", "nothing_selected", "no_such_column", "no_test_sample", "cap_too_small"],
)
def test_census_that_gives_nothing(copied, census, said):
    before = results(copied)
    shown = copied.run(fails=True, **{**SMALL, "census": {**SMALL["census"], **census}, "dataset": "other"})
    assert said in shown and "Traceback" not in shown
    assert results(copied) == before


def test_corrupt_own_file(copied):
    (copied.folder / "data").mkdir()
    (copied.folder / "data/broken.h5ad").write_bytes(b"no HDF5 at all")
    shown = copied.run(preset="blood-h5ad", fails=True)
    assert "data/broken.h5ad" in shown and "Traceback" not in shown


def test_corrupt_chunk_is_named(copied):
    chunk = next(copied.path("census").glob("demo-*.h5ad"))
    dates = chunk.stat()
    chunk.write_bytes(chunk.read_bytes()[: chunk.stat().st_size // 2])
    os.utime(chunk, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    shown = copied.run(fails=True, **{**SMALL, "hvg": {"n_top": 600}})
    assert chunk.name in shown and "Traceback" not in shown


def test_a_deleted_list_of_cells_is_missed(copied):
    """Its cells are not left out in silence."""
    list_ = next(copied.path("demo/chunks").glob("*.parquet"))
    list_.unlink()
    shown = copied.run("-n", fails=True, **SMALL)
    assert f"results/demo/chunks has no list of {list_.stem}: delete it" in shown
    shutil.rmtree(copied.path("demo/chunks"))
    assert "Choosing the samples" in copied.run("-n", **{**SMALL, "split": {"valid_fraction": 0.1}})


def test_corrupt_shard_is_named(copied):
    shard = max(copied.path("demo/shards/train").glob("*.parquet"), key=lambda path: path.stat().st_size)
    dates, content = shard.stat(), bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(content)
    os.utime(shard, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    shown = copied.run("--rerun-triggers", "params", fails=True, **{**SMALL, "train": {"lr": 1.0e-3}})
    assert shard.name in shown and "Traceback" not in shown


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system can be mounted by root alone")
def test_full_disk(copied):
    kept = copied.path("demo/base/best_model.pt").read_bytes()
    small = copied.folder / "results/demo/other"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], check=True)
    try:
        shown = copied.run("results/demo/other/best_model.pt", fails=True, **{**SMALL, "run": "other"})
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert "No space left on device" in shown and "Traceback" not in shown
    assert copied.path("demo/base/best_model.pt").read_bytes() == kept
