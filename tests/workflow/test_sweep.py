"""A sweep in one graph: what is shared is computed once, a failing run stops no other, more values run alone."""

import os
import re
from collections import Counter

import pytest
import yaml

from .conftest import SMALL
from .test_reruns import jobs_of
from .watch import Watch

pytestmark = pytest.mark.slow

TINY = {"epochs": 1, "max_steps": 2}
BASE = {**SMALL, "dataset": "swept", "evaluate": {"max_cells": 200, "ridge_components": 2}}
GRID = {"model.dropout": [0, 0.1, 0.2], "train.max_steps": [2, 3]}
PAGE = "results/sweep-six.html"  # without the reports, which take no part in what is tested here
BROKEN = {"run": "broken", "train.init_from": "config.yaml"}


def settings(*grids, **more):
    return {**BASE, "train": {**SMALL["train"], **TINY}, "sweep": {"name": "six", "runs": list(grids)}, **more}


def text_of(project):
    return project.path("sweep-six.html").read_text()


@pytest.fixture(scope="module")
def swept(small_demo, tmp_path_factory):
    """Six runs over model and training keys that work, and a seventh that cannot, on a new preparation."""
    project = small_demo.copy(tmp_path_factory.mktemp("sweep") / "copy")
    project.output = project.run(PAGE, "--keep-going", fails=True, **settings(GRID, BROKEN))
    return project


def test_shared_steps_run_once(swept):
    """Nothing is downloaded again, the data are prepared once; six of seven runs are trained."""
    n = len(list(swept.path("swept/chunks").glob("*.parquet")))
    gather, by_chunk = ("select", "genes", "vocab", "manifest"), ("hvg", "binning", "split", "tokenize")
    model = {"effective_config": 7, "pretrain": 6, "evaluate": 6}
    done = Counter(path.relative_to(swept.path("swept")).as_posix() for path in swept.path("swept").rglob("*.tsv"))
    rules = Counter(re.search(r"benchmarks/(\w+)", name)[1] for name in done)
    assert rules == {**dict.fromkeys(gather, 1), **dict.fromkeys(by_chunk, n), **model}
    assert re.findall(r"(?:rule|checkpoint) (\w+):", swept.output).count("download") == 0
    assert "sweep six: runs 7, data sets 1, to be trained 7" in swept.output


def test_the_page_says_what_failed_and_shows_the_others(swept):
    page = text_of(swept)
    assert "1 of 7 runs did not finish" in page
    assert "<b>swept/broken</b>: pretrain failed: config.yaml is damaged or no file of censusformer" in page
    assert page.count('report.html">0</a>') == 6
    assert "says which runs of the sweep failed" in swept.output


def test_the_page_is_whole_without_the_failed_run_and_grows_with_new_values(swept, tmp_path):
    project = swept.copy(tmp_path / "copy")
    watch = Watch(project)
    project.run(PAGE, **settings(GRID))
    assert watch.rules() == {"sweep": 1}
    assert "did not finish" not in text_of(project)
    assert jobs_of(project.run(PAGE, "-n", **settings(GRID))) == {}
    more = {**GRID, "model.dropout": [0, 0.1, 0.2, 0.3]}
    assert jobs_of(project.run(PAGE, "-n", **settings(more))) == {"pretrain": 2, "evaluate": 2, "sweep": 1}
    data = [GRID, {"hvg.n_top": 600, "train.max_steps": 2}]
    planned = jobs_of(project.run(PAGE, "-n", **settings(*data)))
    assert planned["pretrain"] == planned["select"] == planned["sweep"] == 1 and "download" not in planned
    run = "results/swept/base-model.dropout_0-train.max_steps_3"
    assert jobs_of(project.run("-n", f"{run}/evaluation/summary.json", **alone_config(project))) == {}


def test_data_that_cannot_be_had_stop_no_other_run(swept, tmp_path):
    project = swept.copy(tmp_path / "copy")
    project.run(PAGE, **settings(GRID))  # a whole page, which the next call replaces, and the one after it
    project.run(PAGE, "--keep-going", fails=True, **settings(GRID, {"census.max_cells": 60}))
    page = text_of(project)
    assert "1 of 7 runs did not finish" in page and page.count('report.html">0</a>') == 6
    assert re.search(r"<b>swept-census.max_cells_60/base[^<]*</b>: select failed: .*census.max_cells", page)
    assert jobs_of(project.run(PAGE, "-n", **settings(GRID))) == {"sweep": 1}


def alone_config(project):
    """The config that the page names for one run."""
    return yaml.safe_load(project.path("swept/base-model.dropout_0-train.max_steps_3/config.yaml").read_text())


def test_a_repaired_run_is_all_that_runs(swept, tmp_path):
    project = swept.copy(tmp_path / "copy")
    project.run("--touch", **settings(GRID))
    planned = jobs_of(project.run(PAGE, "-n", **settings(GRID, {**BROKEN, "train.init_from": None, "train.seed": 9})))
    assert planned == {"pretrain": 1, "evaluate": 1, "sweep": 1}


def test_another_model_to_start_from_trains_anew(swept, tmp_path):
    """Growth in one graph: a run starts from another's model; of a model from elsewhere the content counts."""
    project = swept.copy(tmp_path / "copy")
    first = "results/swept/base-model.dropout_0/best_model.pt"
    assert project.path("swept/base-model.dropout_0/best_model.pt").is_file()
    elsewhere = project.folder / "model.pt"
    elsewhere.write_bytes((project.folder / first).read_bytes())
    grown = {**BASE, "run": "grown", "train": {**SMALL["train"], **TINY, "init_from": "model.pt"}}
    target = "results/swept/grown/best_model.pt"
    project.run(target, **grown)
    assert "starting from model.pt" in project.path("swept/grown/logs/pretrain.log").read_text()
    assert jobs_of(project.run("-n", target, **grown)) == {}
    date = elsewhere.stat()
    elsewhere.write_bytes((project.folder / first.replace("_0/", "_0.2/")).read_bytes())
    os.utime(elsewhere, ns=(date.st_atime_ns, date.st_mtime_ns))
    assert jobs_of(project.run("-n", target, **grown)) == {"pretrain": 1}


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ({"model.droput": [0.1]}, "model.droput is no key of the config; did you mean model.dropout?"),
        ({"train.lr": [-1]}, "train.lr: -1 is not allowed; allowed: number, over 0"),
        ({"train.seed": list(range(10000))}, "sweep: 10,000 combinations are more than 1,000"),
        ({"run": "x", "train.seed": [1, 2]}, "two combinations are called demo/x"),
        ({"train.init_from": "none.pt"}, "train.init_from: none.pt is missing"),
    ],
    ids=["unknown", "refused", "many", "names", "start"],
)
def test_bad_sweeps_end_in_a_few_lines(project, sweep, said):
    shown = project.run(fails=True, sweep=sweep)
    assert said in shown and "Traceback" not in shown and len(shown.splitlines()) <= 6
    assert not project.path("").exists()


def test_a_sweep_of_six_is_planned_with_one_preparation(project):
    shown = project.run("-n", **{**settings(GRID), "dataset": "demo"})
    gather = {"demo": 1, "select": 1, "genes": 1, "vocab": 1, "manifest": 1}
    assert jobs_of(shown) == {**gather, "pretrain": 6, "evaluate": 6, "embeddings": 6, "report": 6, "sweep": 1}
    assert "at most, each epoch counted" in shown
