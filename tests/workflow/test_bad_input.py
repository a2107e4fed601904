"""Bad input ends in one clear message that names what to change, and nothing already computed is lost."""

import os
import shutil
import subprocess

import pytest

from .conftest import SMALL, Project

pytestmark = pytest.mark.slow


@pytest.fixture
def prepared(small_demo, tmp_path):
    """The finished small demo, to be broken."""
    project = object.__new__(Project)
    project.folder = tmp_path / "copy"
    shutil.copytree(small_demo.folder, project.folder, symlinks=True)
    return project


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
def test_census_that_gives_nothing(prepared, census, said):
    before = results(prepared)
    shown = prepared.run(fails=True, **{**SMALL, "census": {**SMALL["census"], **census}, "dataset": "other"})
    assert said in shown and "Traceback" not in shown
    assert results(prepared) == before


def test_corrupt_own_file(prepared):
    (prepared.folder / "data").mkdir()
    (prepared.folder / "data/broken.h5ad").write_bytes(b"no HDF5 at all")
    shown = prepared.run(preset="blood-h5ad", fails=True)
    assert "data/broken.h5ad" in shown and "Traceback" not in shown


def test_corrupt_chunk_is_named(prepared):
    chunk = next(prepared.path("census").glob("demo-*.h5ad"))
    dates = chunk.stat()
    chunk.write_bytes(chunk.read_bytes()[: chunk.stat().st_size // 2])
    os.utime(chunk, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    shown = prepared.run(fails=True, **{**SMALL, "hvg": {"n_top": 600}})
    assert chunk.name in shown and "Traceback" not in shown


def test_a_deleted_list_of_cells_is_missed(prepared):
    """Its cells are not left out in silence."""
    list_ = next(prepared.path("demo/chunks").glob("*.parquet"))
    list_.unlink()
    shown = prepared.run("-n", fails=True, **SMALL)
    assert f"results/demo/chunks has no list of {list_.stem}: delete it" in shown
    shutil.rmtree(prepared.path("demo/chunks"))
    assert "Choosing the samples" in prepared.run("-n", **{**SMALL, "split": {"valid_fraction": 0.1}})


def test_corrupt_shard_is_named(prepared):
    shard = max(prepared.path("demo/shards/train").glob("*.parquet"), key=lambda path: path.stat().st_size)
    dates, content = shard.stat(), bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(content)
    os.utime(shard, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    shown = prepared.run("--rerun-triggers", "params", fails=True, **{**SMALL, "train": {"lr": 1.0e-3}})
    assert shard.name in shown and "Traceback" not in shown


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system can be mounted by root alone")
def test_full_disk(prepared):
    kept = prepared.path("demo/base/best_model.pt").read_bytes()
    small = prepared.folder / "results/demo/other"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], check=True)
    try:
        shown = prepared.run("results/demo/other/best_model.pt", fails=True, **{**SMALL, "run": "other"})
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert "No space left on device" in shown and "Traceback" not in shown
    assert prepared.path("demo/base/best_model.pt").read_bytes() == kept
