"""Whole runs: a copy of the project in a folder of its own, and Snakemake called in it as a user calls it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PARTS = ("Snakefile", "config.yaml", "presets", "workflow", "envs", "profiles", "slurm", "src")


class Project:
    """A copy of the project; `run` calls Snakemake in it."""

    def __init__(self, folder: Path, root: Path):
        self.folder = folder
        for part in PARTS:
            source = root / part
            if source.is_dir():
                shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy(source, folder / part)

    def run(self, *args, fails=False, preset=None, **overrides):
        """Snakemake's output. Overrides go through a file: a mapping a section."""
        (self.folder / "overrides.yaml").write_text(yaml.safe_dump(overrides))
        files = [*([f"presets/{preset}.yaml"] if preset else []), "overrides.yaml"]
        command = [sys.executable, "-m", "snakemake", *args, "--cores", "2", "--configfile", *files]
        done = subprocess.run(
            command, cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        assert (done.returncode != 0) == fails, done.stdout[-6000:]
        return done.stdout

    def path(self, name):
        return self.folder / "results" / name

    def json(self, name):
        return json.loads(self.path(name).read_text())

    @classmethod
    def at(cls, folder: Path) -> "Project":
        """A project that stands in a folder already."""
        project = object.__new__(cls)
        project.folder = folder
        return project

    def copy(self, folder: Path) -> "Project":
        """Another one with all results, dates kept, to be changed."""
        return Project.at(shutil.copytree(self.folder, folder, symlinks=True))


@pytest.fixture
def project(tmp_path, root):
    return Project(tmp_path, root)


SMALL = {
    "census": {"max_cells": 1800, "test_cells": 300},
    "chunk": {"cells": 800},
    "train": {"epochs": 2},
    "embeddings": {"cells": 0},
}


@pytest.fixture(scope="session")
def small_demo(tmp_path_factory, root):
    """The demo with fewer cells and two epochs, finished."""
    project = Project(tmp_path_factory.mktemp("small_demo"), root)
    project.output = project.run(**SMALL)
    return project


@pytest.fixture
def copied(small_demo, tmp_path):
    """The finished small demo, to be changed or broken."""
    return small_demo.copy(tmp_path / "copy")
