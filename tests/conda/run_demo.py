"""`make conda-test`: the demo with `--sdm conda`, each rule in its environment, which a real conda makes.

Not named test_*, so that `make test` leaves it out: it installs some 2 GB. The tests follow each other, as in a file of
one story: a first run, a second, an edit, another folder.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from conda_envs import envs_of_rules

from tests.conda.channel import make_conda
from tests.workflow.conftest import Project

SMALL = {
    "census": {"max_cells": 1800, "test_cells": 300},
    "chunk": {"cells": 800},
    "train": {"max_steps": 40},
    "execution": {"log_every": 10},
}
PREPARED = ("vocab.json", "shards.json", "samples.parquet", "genes.parquet", "gene_list.parquet")


class Watched(Project):
    """A copy of the project whose steps say where they ran."""

    def __init__(self, folder: Path, root: Path):
        super().__init__(folder, root)
        shutil.copy(root / "tests/conda/witness.py", folder / "src/sitecustomize.py")

    def heard(self):
        """What the steps wrote since the last call: {step: lines}."""
        file, said = self.folder / "witness.jsonl", {}
        for line in map(json.loads, file.read_text().splitlines()):
            assert line["command"][:2] == ["-m", "censusformer"]
            said.setdefault(line["command"][2], []).append(line)
        file.unlink()
        return said

    def made(self):
        """{prefix: text of its YAML} of the environments below .snakemake."""
        folder = self.folder / ".snakemake/conda"
        return {str(file.with_suffix("")): file.read_text() for file in sorted(folder.glob("*.yaml"))}


@pytest.fixture(scope="module", autouse=True)
def conda(tmp_path_factory, root):
    """A conda first on PATH; all that it made is removed in the end."""
    folder = tmp_path_factory.mktemp("conda")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("CONDA", "_CE_", "PYTHON"))]:
            patch.delenv(name)
        patch.setenv("PATH", str(make_conda(root, folder)), prepend=os.pathsep)
        yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def plain(tmp_path_factory, root):
    """The demo in the environment that `make` installs."""
    project = Watched(tmp_path_factory.mktemp("plain"), root)
    project.run(**SMALL)
    project.said = project.heard()
    return project


@pytest.fixture(scope="module")
def project(tmp_path_factory, root):
    """The demo in its environments; they are removed in the end."""
    project = Watched(tmp_path_factory.mktemp("project"), root)
    project.shown = project.run("--sdm=conda", **SMALL)
    project.said = project.heard()
    yield project
    shutil.rmtree(project.folder)


def test_every_environment_is_created_once(project, root):
    wanted = {envs_of_rules(root)[rule] for rule in [*project.said, "effective_config"]}
    assert {"census", "prep", "train", "report"} <= wanted
    assert sorted(project.made().values()) == sorted((root / f"envs/{name}.yaml").read_text() for name in wanted)
    assert project.shown.count("Creating conda environment") == len(wanted)


def test_each_step_ran_in_its_environment(project, plain, root):
    env_of, made = envs_of_rules(root), project.made()
    assert project.said.keys() == plain.said.keys()
    for step, lines in project.said.items():
        for line in lines:
            assert made[line["prefix"]] == (root / f"envs/{env_of[step]}.yaml").read_text(), step
            assert not line["foreign"], step


def test_the_witness_would_tell(plain):
    """Without conda it names the interpreter that runs Snakemake."""
    assert {line["prefix"] for lines in plain.said.values() for line in lines} == {sys.prefix}


def test_same_files_as_without_conda(project, plain):
    shards = [path.relative_to(plain.path("demo")) for path in plain.path("demo/shards").rglob("*.parquet")]
    assert len(shards) >= 5
    for name in [*shards, *PREPARED]:
        assert project.path("demo").joinpath(name).read_bytes() == plain.path("demo").joinpath(name).read_bytes(), name
    curves = [pd.read_csv(p.path("demo/base/metrics.csv")).drop(columns="seconds") for p in (project, plain)]
    assert len(curves[0]) > 4
    pd.testing.assert_frame_equal(*curves, check_exact=True)


def test_second_run_creates_and_runs_nothing(project):
    before = project.made()
    shown = project.run("--sdm=conda", **SMALL)
    assert "Nothing to be done" in shown and "Creating conda environment" not in shown
    assert project.made() == before and not (project.folder / "witness.jsonl").exists()


def test_an_edit_of_our_source_counts_inside(project):
    with (project.folder / "src/censusformer/steps/report.py").open("a") as file:
        file.write("\nprint('edited:', __file__)\n")
    shown = project.run("--sdm=conda", **SMALL)
    assert f"edited: {project.folder}/src/censusformer/steps/report.py" in shown
    assert project.heard().keys() == {"report"}


def test_through_a_module_with_a_prefix_that_holds_the_environments(project, tmp_path):
    """Another workflow, in a folder of its own, uses the rules and the environments that are there."""
    (tmp_path / "Snakefile").write_text(
        f"configfile: {str(project.folder / 'config.yaml')!r}\n\n\nmodule censusformer:\n"
        f"    snakefile: {str(project.folder / 'Snakefile')!r}\n    config: config\n\n\n"
        "use rule * from censusformer as cf_*\n"
    )
    outer, before = Project.at(tmp_path), project.made()
    prefix = f"--conda-prefix={project.folder / '.snakemake/conda'}"
    shown = outer.run("results/demo/gene_list.parquet", "--sdm=conda", prefix, **SMALL)
    assert "Creating conda environment" not in shown and project.made() == before
    assert outer.path("demo/gene_list.parquet").read_bytes() == project.path("demo/gene_list.parquet").read_bytes()
    said = project.heard()
    assert said.keys() == {"demo", "select", "download", "count", "genes"}
    assert {line["prefix"] for lines in said.values() for line in lines} <= before.keys()
